"""A bank on clusters of servers; `make test-cluster` runs the tests with the marker `cluster`."""
