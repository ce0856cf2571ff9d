"""Writes into README.md what the committed reports say; `make results` runs it.

    python -m experiments.compress.readme

Each text stands between `<!-- results: NAME -->` and `<!-- end -->`.
"""

import json
import pathlib
import re

from experiments.compress.table import markdown, table

_ROOT = pathlib.Path(__file__).parents[2]


def rendered(text: str, results: pathlib.Path) -> str:
  """The text with its marked parts as the reports in a folder have them."""

  def block(found: re.Match) -> str:
    report = json.loads((results / found[1] / 'report.json').read_text())
    if found[1] == 'digits':
      body = f'```\n{table(report)}\n```'
    else:
      device, accuracy = report['device'], report['baseline']['accuracy']
      body = f'On {device}, {accuracy:.2%} before compression:\n\n{markdown(report)}'
    return f'<!-- results: {found[1]} -->\n{body}\n<!-- end -->'

  return re.sub(r'<!-- results: (\w+) -->\n.*?<!-- end -->', block, text, flags=re.S)


if __name__ == '__main__':
  path = _ROOT / 'README.md'
  path.write_text(rendered(path.read_text(), _ROOT / 'docs' / 'results'))
