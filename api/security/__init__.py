"""Access control over HTTP: the roles of routes, API keys, rate limits, and CSRF protection."""
