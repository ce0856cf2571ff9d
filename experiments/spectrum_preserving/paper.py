"""What the paper and its authors' code give, and how sure each figure is.

Su, Li, Bhattacharjee, Huang, arXiv 1805.10352 (2018).
"""

MEANING = {
  'derived': "arithmetic on the rank rules of the authors' code",
  'unverified': 'recollection of the printed table, to be checked',
}

# ResNet-32 version 2 with projections: parameters of its 33 kernels after compression [derived].
WEIGHTS = 463_616
SIZES = {
  'svd': {0.02: 10_496, 0.05: 26_096, 0.1: 49_088, 0.2: 96_640, 0.4: 189_536},
  'cp': {0.02: 10_899, 0.05: 24_593, 0.1: 47_111, 0.2: 94_021, 0.4: 186_669},
  'tk': {0.02: 11_919, 0.05: 25_325, 0.1: 50_758, 0.2: 98_569, 0.4: 186_767},
  'tt': {0.02: 10_980, 0.05: 24_176, 0.4: 195_168},
  'r_cp': {0.02: 33_152, 0.05: 79_658, 0.1: 157_952, 0.2: 314_060, 0.4: 625_844},
  'r_tk': {0.02: 10_363, 0.05: 24_940, 0.1: 48_986, 0.2: 106_789, 0.4: 200_283},
  'r_tt': {0.02: 12_214, 0.05: 29_521, 0.4: 163_478},
}
# The later code's r-CP, which divides by the true count and rounds down, to rank 0 if need be.
R_CP_LATER = {0.02: 8_549, 0.05: 22_018, 0.1: 44_599, 0.2: 90_978, 0.4: 184_022}

# ResNet-50 version 2: 52 kernels [derived].
WEIGHTS_50 = 23_445_504

# Test accuracy on CIFAR-10 of that ResNet-32 by nominal rate [unverified]. Which divisor the r-CP
# figures used is not known: by the released one "5 %" is truly 17.2 %.
BASELINE = 0.932
ACCURACY = {
  ('svd', 'e2e'): {0.05: 0.8309, 0.1: 0.8727, 0.2: 0.8958, 0.4: 0.9085},
  ('svd', 'seq'): {0.05: 0.7404, 0.1: 0.8528, 0.2: 0.8974, 0.4: 0.9183},
  ('cp', 'e2e'): {0.05: 0.8402, 0.1: 0.8693, 0.2: 0.8875, 0.4: 0.8875},
  ('cp', 'seq'): {0.05: 0.8319, 0.1: 0.8850, 0.2: 0.9072, 0.4: 0.8975},
  ('tk', 'e2e'): {0.05: 0.8357, 0.1: 0.8600, 0.2: 0.8803, 0.4: 0.8935},
  ('tk', 'seq'): {0.05: 0.8011, 0.1: 0.8675, 0.2: 0.8955, 0.4: 0.9130},
  ('tt', 'e2e'): {0.05: 0.7744, 0.1: 0.8292, 0.2: 0.8413, 0.4: 0.8664},
  ('tt', 'seq'): {0.05: 0.8077, 0.1: 0.8708, 0.2: 0.8914, 0.4: 0.9121},
  ('r_cp', 'seq'): {0.02: 0.8570, 0.05: 0.8986, 0.1: 0.9128},
  ('r_tk', 'seq'): {0.02: 0.6106, 0.05: 0.7134, 0.1: 0.8159, 0.2: 0.8711},
  ('r_tt', 'seq'): {0.02: 0.7895, 0.05: 0.8426, 0.1: 0.8789},
}
