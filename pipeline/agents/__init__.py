"""A worker's work: it acquires partitions, applies their events, rebuilds, retries parked ones."""
