"""Compares documents with the event store and repairs them, from a process that owns no partition."""
