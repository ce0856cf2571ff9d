from pathlib import Path

from setuptools import find_packages, setup

EXPERIMENTS = [
  'grain>=0.2.18',
  'matplotlib>=3.8',
  'orbax-checkpoint>=0.11',
  'pillow>=11',
  'rich>=13.9',
  'scikit-learn>=1.4',
  'zstandard>=0.22',  # for the compilation cache, which else waits for zlib
]
# torchTT builds against the torch that is there: `make bench` installs torch first.
BENCH = ['pyttb>=1.8', 'tensorly>=0.9', 'tensorly-torch>=0.5', 'torch>=2.2', 'torchTT>=0.4']
ONNX = ['jax2onnx>=0.17', 'onnxruntime>=1.24']
TEST = ['hypothesis>=6.100', 'pytest>=8', 'pytest-xdist>=3.6', 'ruff>=0.9,<0.18']

setup(
  name='tnjax',
  version='0.1.0',
  description='Tensor-network compression of neural networks in JAX',
  long_description=Path('README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=find_packages(include=['tnjax*']),
  python_requires='>=3.11',
  install_requires=[
    'absl-py>=2.1',
    'flatbuffers>=24.3',
    'flax>=0.12.8,<0.13; python_version<"3.12"',
    'flax>=0.12.10,<0.13; python_version>="3.12"',
    'jax>=0.10,<0.13',
    'numpy>=2.0',
    'opt_einsum>=3.4',
    'optax>=0.2.4',
    'safetensors>=0.4.5',
    'scipy>=1.14',
    'threadpoolctl>=3.1',
  ],
  extras_require={
    'bench': EXPERIMENTS + BENCH,
    'experiments': EXPERIMENTS,
    'onnx': ONNX,
    'test': EXPERIMENTS + TEST,
  },
)
