"""The bank, pure: its kinds of events and its projections. Imports `model` alone."""
