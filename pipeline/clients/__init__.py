"""The drivers' clients of the four servers. Nobody else makes one, so none goes without TLS."""
