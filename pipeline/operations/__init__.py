"""What people ask of a running bank: its status, whether it is right, and repairs."""
