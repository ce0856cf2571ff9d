"""Side rooms shared by the experiments: data, training, checkpoints, progress, results, plots."""
