"""A worker's part in a rebuild of the projection under live traffic."""
