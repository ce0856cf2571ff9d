"""The rooms of the package import only to their left, and keep their private modules private."""

import ast
import os
import pathlib
import re
import subprocess

import pytest

ROOMS = ['ops', 'contraction', 'formats', 'ranks', 'decompositions', 'schemes', 'nn', 'models',
         'compression']  # fmt: skip
ROOT = pathlib.Path(__file__).parent.parent
SOURCES = sorted((ROOT / 'tnjax').rglob('*/*.py')) + sorted((ROOT / 'experiments').rglob('*.py'))


def imports(path):
  """Dotted names a module imports, `from tnjax import x` counted as tnjax.x."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative imports hide the room'
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


def test_modules_of_the_tests_may_share_a_name(pytestconfig):
  assert pytestconfig.getoption('importmode') == 'importlib'


def test_links_of_the_documentation_lead_somewhere():
  if not (ROOT / '.git').exists():
    pytest.skip('not a git checkout, so what is committed is not known')
  listed = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=True)
  files = set(listed.stdout.splitlines())
  for page in [name for name in files if name.endswith('.md')]:
    text = (ROOT / page).read_text()
    for link in re.findall(r'\]\((?!http)([^)#]+)\)', text):
      target = os.path.normpath(os.path.join(os.path.dirname(page), link))
      assert target in files, f'{page} links to {link}'
