"""Files: what comes back, in this process and in another, and what damage is found."""

import hashlib
import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

KEY = jax.random.key(0)
IMAGE = (8, 8, 3)
ALL = ['svd', 'cp', 'tk', 'tt', 'tr', 'r_cp', 'r_tk', 'r_tt', 'shuffled', 'cp4']


def net():
  return tn.models.cifar_resnet(8, widths=(8, 8, 16), rngs=nnx.Rngs(0))


@nnx.jit
def call(model, x):
  return model(x)


def equal(a, b):
  """Both states, to the bit."""
  flat = [nnx.to_flat_state(nnx.state(m)) for m in (a, b)]
  assert [path for path, _ in flat[0]] == [path for path, _ in flat[1]]
  for (path, x), (_, y) in zip(*flat):
    x, y = x[...], y[...]
    assert (x.dtype, x.shape) == (y.dtype, y.shape), path
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=str(path))


@pytest.fixture(scope='module')
def mixed(tmp_path_factory):
  """A network compressed by every scheme at once, and its file."""
  paths = [f'stages/{s}/0/conv{c}' for s in range(3) for c in (1, 2)]
  rules = [(path, tn.schemes.by_name(name, 0.4)) for path, name in zip(paths, ALL)]
  rules += [('conv', tn.schemes.shuffled(ranks=2)), ('linear', tn.schemes.r_tk(ranks=2))]
  small, _ = tn.compress(net(), rules, KEY)
  path = tmp_path_factory.mktemp('saved') / 'new' / 'mixed.safetensors'
  tn.save(path, small, notes={'accuracy': 0.9})
  return small, path


def test_what_is_saved_is_what_is_loaded(mixed):
  small, path = mixed
  again = tn.load(path)
  equal(small, again)
  assert nnx.graphdef(small) == nnx.graphdef(again)
  x = jnp.ones((2, *IMAGE))
  np.testing.assert_array_equal(call(small, x), call(again, x))
  about = tn.compression.describe(path)
  assert about['notes'] == {'accuracy': 0.9}
  assert about['layers']['conv']['scheme'] == {'name': 'shuffled', 'ranks': 2}
  assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing else is left behind


def test_another_process_needs_the_file_alone(mixed):
  small, path = mixed
  code = f"""
    import jax.numpy as jnp, numpy as np, tnjax as tn
    from flax import nnx
    net = tn.load({str(path)!r})
    y = nnx.jit(lambda net, x: net(x))(net, jnp.ones((2, *{IMAGE})))
    print(json.dumps(np.asarray(y).tolist()))
  """
  done = subprocess.run(
    [sys.executable, '-c', 'import json\n' + textwrap.dedent(code)],
    capture_output=True, text=True, check=True, env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
  )  # fmt: skip
  np.testing.assert_allclose(json.loads(done.stdout), call(small, jnp.ones((2, *IMAGE))), rtol=1e-5)


def test_ranks_of_a_budget_survive(tmp_path):
  rules, _ = tn.compression.budget(net(), tn.schemes.tk(rate=0.5), params_ratio=0.5)
  small, report = tn.compress(net(), rules)
  tn.save(tmp_path / 'a', small)
  again = tn.load(tmp_path / 'a')
  rows = tn.compression.plan(again, (('.*', None),)).layers
  assert [row.params for row in rows] == [row.params for row in report.layers]
  equal(small, again)


def test_a_dense_model_and_its_statistics(tmp_path):
  model = net()
  nnx.jit(lambda model, x: model(x, train=True))(
    model, jnp.ones((2, *IMAGE))
  )  # batch statistics move
  tn.save(tmp_path / 'a', model)
  equal(model, tn.load(tmp_path / 'a'))


class Mine(nnx.Module):
  """An architecture of a user's: dropout, a tied embedding, complex and bf16 weights, a stack."""

  def __init__(self, rngs):
    self.embed = nnx.Embed(32, 16, rngs=rngs)
    self.linear = nnx.Linear(16, 16, param_dtype=jnp.bfloat16, rngs=rngs)
    self.phases = nnx.Param(jnp.ones((3,), jnp.complex64) * 1j)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.first, self.second = (nnx.Linear(16, 16, rngs=rngs) for _ in range(2))
    self.second.kernel = self.first.kernel

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs):
      return nnx.Linear(16, 16, rngs=rngs)

    self.stack = make(rngs)


MINE = (
  ('embed', tn.schemes.r_tt(ranks=2, order=2)),
  ('stack', tn.schemes.shuffled(ranks=2)),
  ('linear|first|second', tn.schemes.svd(ranks=2)),
)


@pytest.mark.parametrize('rules', [(), MINE], ids=['dense', 'compressed'])
def test_an_architecture_of_a_user(tmp_path, rules):
  with nnx.set_graph_mode(True):
    model = tn.compress(Mine(nnx.Rngs(0)), rules, KEY)[0]
    model.drop(jnp.ones(4))  # the stream of keys moves on
    path = tmp_path / 'mine.safetensors'
    tn.save(path, model)
    with pytest.raises(ValueError, match='Mine, none of tnjax.models; pass model='):
      tn.load(path)
    abstract = nnx.eval_shape(lambda: Mine(nnx.Rngs(1)))
    for given in (abstract, Mine(nnx.Rngs(1)), model):
      again = tn.load(path, model=given)
      equal(model, again)
      kept = [m.core_0 if rules else m.kernel for m in (again.first, again.second)]
      assert kept[0] is kept[1]  # tied weights once
    np.testing.assert_array_equal(model.drop(jnp.ones(9)), again.drop(jnp.ones(9)))


def test_a_file_for_another_architecture_names_both_shapes(mixed):
  _, path = mixed
  wider = tn.models.cifar_resnet(8, widths=(16, 16, 16), rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=r'mixed.*shape \(.*needs \('):
    tn.load(path, model=wider)
  with pytest.raises(ValueError, match="layer 'conv'.*lacks"):
    tn.load(path, model=nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


def damaged(path, tmp_path, change):
  copy = tmp_path / 'damaged.safetensors'
  content = bytearray(path.read_bytes())
  copy.write_bytes(change(content))
  return copy


def flipped(content, marker=None):
  place = len(content) - 100 if marker is None else content.index(marker) + len(marker) + 2
  content[place] ^= 1
  return content


@pytest.mark.parametrize(
  'change',
  [
    lambda c: c[: len(c) // 2],
    lambda c: b'',
    lambda c: c + b'x',
    lambda c: b'hello' + c,
    lambda c: flipped(c),
    lambda c: flipped(c, b'ranks'),
  ],
  ids=['half', 'empty', 'longer', 'shifted', 'an array', 'the description'],
)
def test_damage_is_found_and_told_in_one_line(mixed, tmp_path, change):
  with pytest.raises(ValueError, match='damaged') as told:
    tn.load(damaged(mixed[1], tmp_path, change))
  assert '\n' not in str(told.value)
  assert 'damaged.safetensors' in str(told.value)


@pytest.mark.parametrize(
  ('entry', 'value'),
  [
    ('format', 'x'), ('format', None), ('format', 1.5), ('layers', 3), ('layers', {'conv': 3}),
    ('layers', {'conv': {'scheme': 3}}), ('arrays', 3), ('arrays', {'conv/kernel': 3}),
    ('keys', 3), ('constructor', 3), ('constructor', {'name': ['x'], 'arguments': 3}),
  ],
)  # fmt: skip
def test_odd_descriptions_are_damage_too(mixed, tmp_path, entry, value):
  """As no accident makes them, but with a sha256 that fits."""
  from safetensors.numpy import load_file, save_file

  text = json.dumps(tn.compression.describe(mixed[1]) | {entry: value})
  about = {'tnjax': text, 'tnjax_sha256': hashlib.sha256(text.encode()).hexdigest()}
  save_file(load_file(mixed[1]), tmp_path / 'odd.safetensors', about)
  with pytest.raises(ValueError, match='odd.safetensors'):
    tn.load(tmp_path / 'odd.safetensors')


def test_files_that_are_not_ours(tmp_path):
  from safetensors.numpy import save_file

  save_file({'a': np.ones(3)}, tmp_path / 'other.safetensors')
  with pytest.raises(ValueError, match='not written by tn.save'):
    tn.load(tmp_path / 'other.safetensors')
  with pytest.raises(FileNotFoundError, match='missing'):
    tn.load(tmp_path / 'missing')


def test_a_file_of_the_days_before(tmp_path):
  """One scheme, rate and pattern in the header, every variable as it was, the index included."""
  from safetensors.numpy import save_file

  rules = (('stages/.*', tn.schemes.shuffled(rate=0.3)),)
  small, _ = tn.compress(net(), rules, KEY)
  flat = nnx.to_flat_state(nnx.state(small))
  arrays = {'/'.join(map(str, p)): np.asarray(v[...]) for p, v in flat if p[-1] != 'index_key'}
  about = {'dataset': 'digits', 'model': 'resnet8', 'seed': 0, 'layers': 'stages/.*',
           'scheme': 'shuffled', 'rate': 0.3}  # fmt: skip
  old = tmp_path / 'old.safetensors'
  save_file(arrays, old, metadata={'tnjax': json.dumps(about)})
  with pytest.raises(ValueError, match='older than the format.*pass model='):
    tn.load(old)
  again = tn.load(old, model=net())
  x = jnp.ones((1, *IMAGE))
  expected = call(small, x)
  np.testing.assert_array_equal(call(again, x), expected)
  tn.save(tmp_path / 'new', again)  # its key is not known, so the index stays in the file
  np.testing.assert_array_equal(call(tn.load(tmp_path / 'new'), x), expected)


def test_a_failed_write_leaves_the_old_file(mixed, tmp_path, monkeypatch):
  small, _ = mixed
  path = tmp_path / 'kept.safetensors'
  tn.save(path, small)
  before = path.read_bytes()
  monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
  with pytest.raises(OSError, match='disk full'):
    tn.save(path, net())
  assert path.read_bytes() == before
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_double_precision_is_not_lost_silently(tmp_path):
  with jax.enable_x64(True):
    model = nnx.Linear(2, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    tn.save(tmp_path / 'a', model)
    equal(model, tn.load(tmp_path / 'a', model=model))
  with pytest.raises(ValueError, match='jax_enable_x64'):
    tn.load(tmp_path / 'a', model=nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


def test_ties_survive_whatever_the_order_of_paths(tmp_path):
  with nnx.set_graph_mode(True):
    layers = [nnx.Linear(16, 16, rngs=nnx.Rngs(i)) for i in range(11)]
    layers[10].kernel = layers[2].kernel  # 'layers/10' sorts before 'layers/2'
    model = nnx.Sequential(*layers)
    small, _ = tn.compress(model, (('.*', tn.schemes.shuffled(rate=0.5)),), KEY)
    tn.save(tmp_path / 'a', small)
    again = tn.load(tmp_path / 'a', model=model)
    assert again.layers[10].core_0 is again.layers[2].core_0
    assert again.layers[10].index is again.layers[2].index
    assert nnx.graphdef(again) == nnx.graphdef(small)


def test_another_dtype_in_the_header_is_damage(tmp_path):
  model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  tn.save(tmp_path / 'a', model)
  content = (tmp_path / 'a').read_bytes()
  (tmp_path / 'b').write_bytes(content.replace(b'"dtype":"F32"', b'"dtype":"I32"'))
  with pytest.raises(ValueError, match='damaged'):
    tn.load(tmp_path / 'b', model=model)


def test_bare_arrays_of_a_module_survive(tmp_path):
  class Bare(nnx.Module):
    def __init__(self, value):
      self.mean = jnp.full(3, value)
      self.count = nnx.Variable(jnp.asarray(value))

  tn.save(tmp_path / 'a', Bare(2.0))
  again = tn.load(tmp_path / 'a', model=Bare(0.0))
  np.testing.assert_array_equal(again.mean, [2, 2, 2])
  assert again.count[...] == 2


@pytest.mark.parametrize(
  ('save', 'message'),
  [
    (lambda folder, m: tn.save(folder, m), 'is a folder'),
    (lambda folder, m: tn.save(folder / 'a', m, notes={'a': jnp.ones(2)}), 'notes.*JSON'),
  ],
)
def test_what_cannot_be_saved_is_named(tmp_path, save, message):
  with pytest.raises(ValueError, match=message):
    save(tmp_path, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
  assert not list(tmp_path.iterdir())
