"""Agents: `projecting.py` keeps a projection, one Faust agent each; `rebuild.py` builds it anew."""
