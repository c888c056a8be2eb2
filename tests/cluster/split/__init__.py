"""Past one log (docs/clusters.md): a simulation with two logs, each of a range of slots.

Each log is the stream `balance` of a nats-server of its own, so that the bank's forwarder writes it
as it is; on one cluster the logs would have names of their own.
"""
