"""The bank on one machine: the four servers as child processes, `bank up` and `bank demo`."""
