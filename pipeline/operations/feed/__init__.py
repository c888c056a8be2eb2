"""The public feed: every event at least once, from the log, and from the store where that lost it.

`position.py`: where a consumer is. `reader.py`: what follows a position. `cloud_events.py`: how it
is shown. `subscriptions.py`: positions that are kept by name.
"""
