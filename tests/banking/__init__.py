"""Tests of `pipeline/banking`."""
