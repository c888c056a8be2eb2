"""The two HTTP services. Depends on `pipeline`, never the other way."""
