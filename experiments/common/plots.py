"""Plots of results."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.common.results import atomic


def accuracy_vs_compression(
  path: pathlib.Path, rows: Sequence[Mapping], baseline: float, title: str
) -> None:
  """Accuracy against the true size of the compressed kernels, one line a scheme.

  Solid lines after fine-tuning, dotted before; the dashed line is the network as it was.
  """
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot as plt
  from matplotlib.ticker import PercentFormatter

  figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
  axes.axhline(baseline, color='black', linestyle='--', linewidth=1, label='uncompressed')
  markers = 'osD^vP*Xh'
  for i, scheme in enumerate(dict.fromkeys(row['scheme'] for row in rows)):
    found = sorted(
      (r for r in rows if r['scheme'] == scheme), key=lambda r: r['kernel_params_ratio']
    )
    size = [r['kernel_params_ratio'] for r in found]
    style = {'color': f'C{i}', 'marker': markers[i % len(markers)], 'markersize': 5}
    axes.plot(size, [r['accuracy_finetuned'] for r in found], label=scheme, **style)
    before = [r['accuracy_decomposed'] for r in found]
    axes.plot(size, before, linestyle=':', linewidth=1, alpha=0.6, **style)
  axes.set_xscale('log')
  axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
  axes.xaxis.set_minor_formatter(PercentFormatter(1, decimals=0))
  axes.tick_params(axis='x', which='minor', labelsize=7)
  axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
  axes.set_xlabel('parameters of the compressed kernels, of the original (true count)')
  axes.set_ylabel('test accuracy')
  axes.set_title(f'{title}\nsolid: fine-tuned, dotted: decomposed only', fontsize=10)
  axes.grid(alpha=0.3)
  axes.legend(ncols=2, fontsize=8)
  with atomic(path) as partial:
    figure.savefig(partial, dpi=120)
  plt.close(figure)
