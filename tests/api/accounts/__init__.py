"""Tests of `api/accounts`."""
