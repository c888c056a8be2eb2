"""The path of a command's events, found by its correlation id: `bank trace`."""
