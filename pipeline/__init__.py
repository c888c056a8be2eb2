"""From the event store to the projection. Knows nothing of HTTP."""
