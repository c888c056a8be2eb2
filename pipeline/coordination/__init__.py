"""Who does what: leases in Redis, fair shares of the partitions, and how many partitions there are."""
