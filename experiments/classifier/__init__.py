"""What the jobs share that start from a trained image classifier."""
