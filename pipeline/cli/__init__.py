"""The `bank` command: one module a command group; `main.py` wires them."""
