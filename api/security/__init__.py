"""Who may do what over HTTP: roles of routes, API keys, limits, and guards against other sites."""
