"""T-Net: human pose by a stacked hourglass whose kernels are slices of one tensor."""
