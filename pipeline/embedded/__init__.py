"""Runs the bank on one machine: four servers as child processes, `bank up`, `bank demo`."""
