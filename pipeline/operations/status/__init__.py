"""The status of a running bank, read from outside: lag, owners, positions, progress."""
