"""Bad input without end, who sends it, and who lives with it."""
