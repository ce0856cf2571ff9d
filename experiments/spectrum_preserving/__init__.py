"""Tensorized spectrum preserving compression (Su et al. 2018): sizes, Seq and E2E, ours beside."""
