"""Tests of the bank, on real servers (`conftest.py` says which)."""
