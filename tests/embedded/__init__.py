"""Tests of `pipeline/embedded`."""
