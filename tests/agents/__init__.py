"""Tests of `pipeline/agents`."""
