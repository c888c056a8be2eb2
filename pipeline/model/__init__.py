"""The pure model: event envelope, upcasters, and projections as folds. No I/O, no bank."""
