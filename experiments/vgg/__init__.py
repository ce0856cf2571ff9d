"""TensorNet on VGG: Table 2, exactly."""
