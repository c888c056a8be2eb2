"""Tests of `pipeline/forwarder`."""
