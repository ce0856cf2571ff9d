import dataclasses

import pytest

from experiments.common import config, workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(config.Config):
  size: int = config.field(1, 'Size.')


def make(**changes):
  return Toy(**changes).resolved()


def test_workdir_is_new_resumed_or_refused(tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  (folder / '.config.partial.json').write_text('killed while writing')
  with (
    workdir.locked(str(folder), make()) as found,
    pytest.raises(ValueError, match='in use'),
    workdir.locked(str(folder), make()),
  ):
    pass
  assert found == folder
  with workdir.locked(str(folder), make(seeds=(4, 0))):
    pass
  assert workdir.check(str(folder), make())['seeds'] == [0, 4]
  with pytest.raises(ValueError, match='size=1; this run has 2'):
    workdir.check(str(folder), make(size=2))
  (tmp_path / 'mine.txt').write_text('precious')
  with pytest.raises(ValueError, match='holds no results'):
    workdir.check(str(tmp_path), make())
  for content in (b'{', b'[]', b'\xff\xfe'):
    (folder / 'config.json').write_bytes(content)
    with pytest.raises(ValueError, match=r'config.json is damaged'):
      workdir.check(str(folder), make())


def test_a_refused_run_leaves_the_folder_as_it_was(tmp_path):
  with workdir.locked(str(tmp_path / 'run'), make()) as folder:
    before = (folder / 'config.json').read_bytes()
  with (
    pytest.raises(ValueError, match='size'),
    workdir.locked(str(folder), make(size=3, seeds=(0, 1))),
  ):
    pass
  assert (folder / 'config.json').read_bytes() == before
