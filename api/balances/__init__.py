"""The balance service, the read side: documents of the projection (:8030)."""
