"""The way of a command, found again by its correlation id: `bank trace`."""
