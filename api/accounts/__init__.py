"""The account service, the write side: commands are decided into events (:8000)."""
