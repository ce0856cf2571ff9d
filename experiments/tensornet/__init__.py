"""TensorNet (Novikov et al. 2015): its counts, networks and timings, ours beside the printed."""
