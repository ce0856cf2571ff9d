"""T-Net: an hourglass network in one tensor; its sizes, exactly."""
