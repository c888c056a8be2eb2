"""Who does what: leases in Redis, fair shares of partitions, and the number of partitions."""
