"""Who may do what over HTTP: roles of routes, API keys, limits, and protection against other sites."""
