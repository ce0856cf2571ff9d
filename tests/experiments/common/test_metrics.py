import json

from hypothesis import given
from hypothesis import strategies as st

from experiments.common.metrics import Metrics


def fill(metrics, phase, first, last):
  for step in range(first, last):
    metrics.append(phase, step, loss=1.0 / (step + 1), seconds=float(step))


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 40))
def test_a_killed_phase_has_every_step_once(tmp_path_factory, reached, saved, torn):
  """Killed after `reached` steps, the last line torn, with a checkpoint of `saved` steps."""
  saved = min(reached, saved)
  path = tmp_path_factory.mktemp('m') / 'metrics.jsonl'
  metrics = Metrics(path)
  fill(metrics, 'train', 0, 5)
  fill(metrics, 'tune', 0, reached)
  line = json.dumps({'phase': 'tune', 'step': reached, 'loss': 1.0, 'seconds': 1.0})
  with path.open('a') as file:
    file.write(line[:torn])
  assert metrics.resume('tune', saved) == max(0, saved - 1)
  fill(metrics, 'tune', saved, 12)
  lines = [json.loads(text) for text in path.read_text().splitlines()]
  assert lines == metrics.read()
  assert [x['step'] for x in lines if x['phase'] == 'train'] == list(range(5))
  assert [x['step'] for x in lines if x['phase'] == 'tune'] == list(range(12))


def test_what_is_not_finite_is_still_json(tmp_path):
  metrics = Metrics(tmp_path / 'metrics.jsonl')
  assert metrics.read() == []
  metrics.append('train', 0, loss=1.0, recall=float('nan'), seconds=0.0)
  (line,) = metrics.read()
  assert line['recall'] is None
