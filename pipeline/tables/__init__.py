"""What agents write and share: checkpoints, documents, activity, epochs, parked accounts, jobs."""
