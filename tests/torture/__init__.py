"""Torture: the whole bank under random commands and seeded faults, judged from outside.

`python -m tests.torture --seed 7 --minutes 2 --faults kill-worker,flushall` runs it, with
`--cluster` on clusters of servers;
docs/reliability.md says what it does and how a failure is read.
"""
