"""Tests of `pipeline/operations`."""
