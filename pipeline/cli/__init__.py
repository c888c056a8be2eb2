"""The subcommands of `bank`, one group a module; `pipeline/cli/main.py` wires them."""
