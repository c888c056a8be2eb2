"""The bank over TLS, with servers that want to know who comes."""
