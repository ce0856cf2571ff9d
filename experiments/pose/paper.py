"""PCKh on MPII that the paper prints, beside which ours are drawn: Kossaifi et al. 2019."""

DENSE = 86.99
# Table 3: (ratio of the networks, PCKh %).
METHODS = {
  'tucker': ((1.7, 87.5), (1.8, 87.4), (3.67, 87.1), (5.2, 86.0)),
  'mps': ((7.4, 85.5),),
  'layerwise': ((1.3, 86.8), (1.4, 84.9), (2.3, 86.4), (6.9, 83.7)),
  'trimmed': ((1.3, 86.9), (2.0, 85.9), (4.0, 84.5)),
}
# Table 2, rank by rank.
MODES = {
  'hourglass': ((1.28, 87.42), (1.82, 86.95), (3.03, 86.05)),
  'depth': ((1.28, 87.71), (1.82, 87.59), (3.03, 86.89)),
  'pathway': ((1.43, 87.53), (2.50, 86.19)),
  'convolution': ((1.82, 82.59),),
  'features': ((1.64, 87.43), (6.25, 83.10)),
  'kernel': ((1.98, 87.30),),
}
