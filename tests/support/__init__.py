"""Tests of `pipeline/support`."""
