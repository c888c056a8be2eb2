"""The bank's own part, pure: its kinds of events and the projections made of them. Stands on `model` alone."""
