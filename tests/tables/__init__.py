"""Tests of `pipeline/tables`."""
