"""Compares documents with the event store and repairs them, without owning a partition."""
