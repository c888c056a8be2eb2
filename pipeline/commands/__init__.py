"""The write engine: commands to aggregates are decided into events and stored, each once."""
