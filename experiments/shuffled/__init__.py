"""Paper D: kernels as low-rank tensors whose entries are shuffled (RsTD) or not (TD)."""
