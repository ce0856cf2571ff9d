"""The main job: compress a trained network by a scheme at a rate, fine-tune, report."""
