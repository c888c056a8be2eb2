"""State beside the agents: checkpoints, documents, activity, epochs, parked accounts, jobs."""
