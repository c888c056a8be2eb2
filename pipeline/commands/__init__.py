"""The subcommands of `bank`, one group a module; `pipeline/cli.py` wires them."""
