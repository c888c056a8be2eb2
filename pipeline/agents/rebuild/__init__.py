"""A worker's part in rebuilding a projection under live traffic."""
