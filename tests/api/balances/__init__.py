"""Tests of `api/balances`."""
