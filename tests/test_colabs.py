"""The notebooks run from top to bottom, teach public names only, and carry no outputs."""

import ast
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

import tnjax
from tests import notebook

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / 'colabs').glob('*.ipynb'))
notebooks = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)


def test_there_are_five_and_the_readme_links_them():
  readme = (ROOT / 'README.md').read_text()
  assert len(NOTEBOOKS) == 5
  assert all(f'(colabs/{path.name})' in readme for path in NOTEBOOKS)


@notebooks
def test_runs_at_small_size(path, tmp_path):
  env = os.environ | {'TNJAX_NOTEBOOK_SMALL': '1', 'TMPDIR': str(tmp_path)}
  command = [sys.executable, notebook.__file__, str(path)]
  done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)
  assert done.returncode == 0, done.stdout + done.stderr
  assert int(re.search(r'(\d+) figures$', done.stdout).group(1)) >= 3
  assert not list(tmp_path.iterdir())  # what it wrote, it removed


@notebooks
def test_outputs_are_stripped(path):
  cells = json.loads(path.read_text(encoding='utf-8'))['cells']
  for cell in cells:
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == []
      assert cell['execution_count'] is None


@notebooks
def test_text_leads_to_code(path):
  """Every code cell, but the set-up and one that goes on with a drawing, has a text before it."""
  kinds = [cell['cell_type'] for cell in json.loads(path.read_text(encoding='utf-8'))['cells']]
  bare = [i for i in range(2, len(kinds)) if kinds[i - 1 : i + 1] == ['code', 'code']]
  assert kinds[0] == 'markdown'
  assert len(bare) <= 2


def chains(tree):
  """The dotted names of a program, such as ['tn', 'compression', 'plan']."""
  for node in ast.walk(tree):
    names = []
    while isinstance(node, ast.Attribute):
      names.insert(0, node.attr)
      node = node.value
    if isinstance(node, ast.Name):
      yield [node.id, *names]


@notebooks
def test_only_public_names(path):
  tree = ast.parse('\n'.join(notebook.sources(path)))
  imported = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
  imported += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
  assert not [name for name in imported if '._' in name]
  assert {name for name in imported if name.startswith('tnjax')} == {'tnjax'}
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      assert re.match(r'[^_]|__\w+__$', node.attr), node.attr
  for first, *names in chains(tree):
    found = tnjax
    for name in names if first == 'tn' else ():
      if isinstance(found, types.ModuleType):
        assert name in found.__all__, f'tn.{".".join(names)} is not public'
      found = getattr(found, name)


@pytest.fixture
def install(monkeypatch):
  """Runs the install cell with some packages installed; returns what it asks pip for."""

  def run(folder, packages):
    asked = []
    found = [types.SimpleNamespace(name=name) for name in packages]
    monkeypatch.setattr(importlib.metadata, 'distributions', lambda: found)
    monkeypatch.setattr(subprocess, 'run', lambda command, **_: asked.extend(command[3:]))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.chdir(folder)
    exec(notebook.sources(NOTEBOOKS[0])[0], {})
    return asked, sys.path[0]

  return run


COLAB = ('jax', 'jax-cuda12-plugin', 'flax', 'optax', 'matplotlib', 'scikit_learn', None)


def test_first_cell_installs_the_checkout_or_else_the_release(install, tmp_path):
  asked, first = install(ROOT / 'colabs', COLAB)
  assert asked[-3:] == ['-e', f'{ROOT}[experiments]', 'jax[cuda12]']
  assert first == str(ROOT)  # usable at once: Python reads a new editable install when it starts
  assert install(tmp_path, COLAB[2:])[0][-1:] == ['tnjax[experiments]']


def test_first_cell_installs_nothing_where_all_is_there(install, tmp_path):
  assert install(tmp_path, (*COLAB, 'tnjax'))[0] == []


def test_first_cell_asks_for_a_restart_after_an_upgrade(install, tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.metadata, 'version', lambda name: 'newer')
  with pytest.raises(SystemExit, match='restart'):
    install(tmp_path, COLAB)


def test_first_cells_are_the_same():
  assert len({notebook.sources(path)[0] for path in NOTEBOOKS}) == 1
