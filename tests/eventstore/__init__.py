"""Tests of `pipeline/eventstore`."""
