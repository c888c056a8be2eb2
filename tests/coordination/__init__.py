"""Tests of `pipeline/coordination`."""
