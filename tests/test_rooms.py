"""The rooms of the package import only to their left, and keep their private modules private."""

import ast
import pathlib

import pytest

ROOMS = ['ops', 'contraction', 'formats', 'ranks', 'decompositions', 'schemes', 'nn', 'models',
         'compression']  # fmt: skip
ROOT = pathlib.Path(__file__).parent.parent
SOURCES = sorted((ROOT / 'tnjax').glob('*/*.py')) + sorted((ROOT / 'experiments').rglob('*.py'))


def imports(path):
  """Dotted names a module imports, `from tnjax import x` counted as tnjax.x."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_left(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  for name in imports(path):
    target = name.split('.')
    if target[0] == 'experiments':
      assert parts[0] == 'experiments', f'the library imports {name}'
      side_room = parts[1] == 'common' and target[1] != 'common'
      assert not side_room, f'the common room imports {name}'
    elif target[0] == 'tnjax' and len(target) > 1 and parts[0] == 'tnjax':
      assert target[1] in ROOMS, f'{name} is no room'
      assert ROOMS.index(target[1]) <= ROOMS.index(parts[1]), f'{parts[1]} imports {name}'


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_private_modules_stay_inside_their_room(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  for name in imports(path):
    target = name.split('.')
    if target[0] == 'tnjax' and any(p.startswith('_') for p in target[2:]):
      assert parts[:2] == tuple(target[:2]), f'{name} is private to its room'


def test_common_imports_no_decomposition():
  for path in (ROOT / 'experiments' / 'common').glob('*.py'):
    assert not any(name.startswith('tnjax') for name in imports(path)), path
