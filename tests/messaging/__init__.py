"""Tests of `pipeline/messaging`."""
