"""Runs the code cells of a notebook, one after the other, as Jupyter would: `notebook.py FILE`.

Every figure is drawn at the end of its cell and closed. Warnings that the cells or tnjax cause are
errors. Prints the number of figures.
"""

import json
import os
import pathlib
import sys
import warnings

import matplotlib

matplotlib.use('agg')
from matplotlib import pyplot


def sources(path):
  """The code of every cell, in order."""
  cells = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))['cells']
  return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def main(path):
  """Runs in the notebook's folder."""
  codes, figures = sources(path), 0
  os.chdir(pathlib.Path(path).parent)
  warnings.filterwarnings('error', module='__main__|tnjax')
  names = {'__name__': '__main__'}
  for i, code in enumerate(codes):
    exec(compile(code, f'{pathlib.Path(path).name}, code cell {i}', 'exec'), names)
    for number in pyplot.get_fignums():
      pyplot.figure(number).draw_without_rendering()
      figures += 1
    pyplot.close('all')
  print(f'{figures} figures')


if __name__ == '__main__':
  main(sys.argv[1])
