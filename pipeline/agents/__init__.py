"""Faust agents: `balance.py` keeps the projection."""
