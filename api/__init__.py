"""The two HTTP services. They import `pipeline`, never the other way."""
