"""The pure model: the event envelope, upcasters, and projections as folds. No I/O, nothing of the bank."""
