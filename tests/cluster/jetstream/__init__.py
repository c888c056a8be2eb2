"""A bank on three nats-servers."""
