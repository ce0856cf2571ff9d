"""The README's Python runs from top to bottom, as a newcomer would paste it."""

import pathlib
import re

from experiments.compress import readme

README = pathlib.Path(__file__).parent.parent / 'README.md'


def test_it_shows_what_the_committed_reports_say():
  text = README.read_text()
  assert readme.rendered(text, README.parent / 'docs' / 'results') == text  # make results
  assert {'digits', 'cifar10'} == set(re.findall('<!-- results: (.*) -->', text))


def test_every_python_block_runs(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # it saves a model
  blocks = re.findall(r'```python\n(.*?)```', README.read_text(), flags=re.S)
  names = {}
  for block in blocks:
    exec(compile(block, 'README.md', 'exec'), names)
  assert len(blocks) >= 5
  assert 'whole model' in capsys.readouterr().out
