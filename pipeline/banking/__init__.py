"""The bank, pure: the account, its kinds of events and its projections, as an application."""
