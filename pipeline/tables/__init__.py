"""The state beside the agents: balances, checkpoints, activity."""
