"""Stick figures: seeded, inside their pictures, and drawn where their joints are."""

import numpy as np

from experiments.pose import metrics
from experiments.pose.geometry import to_crop
from experiments.pose.people import LSP
from experiments.pose.rendered import figures, skeletons


def test_the_same_seed_draws_the_same():
  one, same, other = (figures(6, 2, 16, seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one.train.images, same.train.images)
  assert one.train.people.fingerprint() == same.train.people.fingerprint()
  assert one.train.people.fingerprint() != other.train.people.fingerprint()
  assert one.train.images.shape == (6, 20, 20, 3)
  assert one.validation.labels.tolist() == [0, 1]
  assert (len(one.train.people), len(one.validation.people)) == (6, 2)


def test_figures_face_the_viewer_with_limbs_of_their_lengths():
  joints = skeletons(500, np.random.default_rng(0))
  at = {name: joints[:, i] for i, name in enumerate(LSP.names)}
  down = at['left hip'] + at['right hip'] - 2 * at['neck']
  across = at['left shoulder'] - at['right shoulder']
  assert (
    np.linalg.det(np.stack([across, down], 1)) > 0
  ).all()  # the right shoulder is on the left of an upright image
  for side in ('left', 'right'):
    shin = np.linalg.norm(at[f'{side} ankle'] - at[f'{side} knee'], axis=1)
    assert 0.63 * 60 < shin.min() < shin.max() < 0.81 * 60
  for joint, start in (('elbow', 'shoulder'), ('knee', 'hip')):  # outwards, more often than not
    assert (at[f'left {joint}'] > at[f'left {start}'])[:, 0].mean() > 0.55
    assert (at[f'right {joint}'] < at[f'right {start}'])[:, 0].mean() > 0.55
  angles = np.arctan2(*(at['left elbow'] - at['left shoulder']).T)
  assert angles.std() > 0.5


def test_figures_are_drawn_where_their_joints_are():
  """The colour at a hip is that of the knee below it, far more often than that of anywhere."""
  found = figures(60, 1, 64, 0)
  people = found.train.people
  crop = to_crop(people.boxes, people.joints, 64)
  assert (crop > 0).all()
  assert (crop < 64).all()
  assert (metrics.torsos(people) > 40).all()
  place = np.floor(crop + 8).astype(int)  # on the canvas

  def colours(x, y):
    return found.train.images[np.arange(60), y, x].astype(int)

  def alike(a, b):
    return (np.abs(a - b).max(-1) < 60).mean()

  knee, ankle = (place[:, LSP.index(f'left {name}')] for name in ('knee', 'ankle'))
  middle = (knee + ankle) // 2
  assert alike(colours(*knee.T), colours(*middle.T)) > 0.85
  assert alike(colours(*knee.T), colours(*((knee + 20) % 80).T)) < 0.4
