"""Every operation of the algebra, on every format, against the same operation on dense arrays."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax import formats

SHAPE = (3, 4, 5)
MATRIX = np.arange(24.0).reshape(6, 4) / 10 - 1
PICK = np.array([3, 0, -1, 3], 'int32')

FORMATS = {  # two tensors of one format, of different ranks
  'TT': (tn.TT, (2, 3), (4, 2)),
  'TR': (tn.TR, (2, 3, 2), (1, 2, 3)),
  'CP': (tn.CP, 3, 6),
  'Tucker': (tn.Tucker, (2, 3, 4), (3, 2, 5)),
  'partial Tucker': (tn.Tucker, (2, None, None), (3, 2, None)),
}


@dataclasses.dataclass(frozen=True)
class Operation:
  """f(a, b) on records, and the same on dense arrays; a result is a record or a scalar array."""

  name: str
  run: Callable
  dense: Callable


OPERATIONS = [
  Operation('add', formats.add, lambda a, b: a + b),
  Operation('subtract', lambda a, b: a - b, lambda a, b: a - b),
  Operation('negate', lambda a, b: -a, lambda a, b: -a),
  Operation('scale', lambda a, b: formats.scale(a, -1.5), lambda a, b: -1.5 * a),
  Operation('hadamard', formats.hadamard, lambda a, b: a * b),
  Operation('inner', formats.inner, lambda a, b: (a.conj() * b).sum()),
  Operation('norm', lambda a, b: formats.norm(a), lambda a, b: (abs(a) ** 2).sum() ** 0.5),
  Operation(
    'mode_product',
    lambda a, b: formats.mode_product(a, jnp.asarray(MATRIX, a.dtype), 1),
    lambda a, b: MATRIX.astype(a.dtype)[None] @ a,
  ),
  *(
    Operation(
      f'take_{mode}',
      lambda a, b, m=mode: formats.take(a, 1, m),
      lambda a, b, m=mode: a[(slice(None),) * (m % 3) + (1,)],
    )
    for mode in (0, 1, -1)
  ),
  Operation('take_some', lambda a, b: formats.take(a, PICK, 1), lambda a, b: a.take(PICK, axis=1)),
  Operation('to_tt', lambda a, b: formats.to_tt(a), lambda a, b: a),
  Operation('to_tr', lambda a, b: formats.to_tr(a), lambda a, b: a),
  Operation('to_tucker', lambda a, b: formats.to_tucker(a), lambda a, b: a),
]
names = pytest.mark.parametrize('name', FORMATS)


def pair(name, dtype='float32', shape=SHAPE):
  kind, *ranks = FORMATS[name]
  a, b = (formats.random(kind, jax.random.key(i), shape, r, dtype) for i, r in enumerate(ranks))
  if kind is tn.CP:
    weights = jnp.array([-2, 0.5, 1], a.weights.dtype)
    a = dataclasses.replace(a, weights=weights)
  return a, b


def full(result):
  return result.full() if isinstance(result, formats.Record) else result


def gap(x, reference):
  x, reference = np.asarray(x), np.asarray(reference)
  assert x.shape == reference.shape
  return np.linalg.norm((x - reference).ravel()) / np.linalg.norm(reference.ravel())


def run_all(a, b):
  """Results of all operations by name, so that one program is compiled for all."""
  return {o.name: o.run(a, b) for o in OPERATIONS}


def dense_all(x, y):
  return {o.name: o.dense(x, y) for o in OPERATIONS}


def assert_all_close(results, expected, tol):
  dense = densified(results)
  for name, result in results.items():
    assert gap(dense[name], expected[name]) < tol, name
    arrays = result.arrays if isinstance(result, formats.Record) else (result,)
    assert {x.dtype for x in arrays} == {expected[name].dtype}, name


def is_record(x):
  return isinstance(x, formats.Record)


compiled = jax.jit(run_all)
densified = jax.jit(lambda results: jax.tree.map(full, results, is_leaf=is_record))


@names
@pytest.mark.parametrize('dtype', ['float32', 'complex128'])
def test_operations_equal_dense_ones(name, dtype):
  with jax.enable_x64(dtype == 'complex128'):
    a, b = pair(name, dtype)
    expected = dense_all(*map(np.asarray, densified((a, b))))
    assert_all_close(compiled(a, b), expected, 60 * jnp.finfo(dtype).eps)


@names
def test_eager_equals_jit(name):
  a, b = pair(name)
  eager, traced = run_all(a, b), compiled(a, b)
  assert jax.tree.structure(eager) == jax.tree.structure(traced)
  assert_all_close(eager, densified(traced), 1e-5)


@names
def test_vmap_equals_loop(name):
  a, b = pair(name)
  twice = jax.tree.map(lambda x: np.stack([x, 2 * np.asarray(x)]), (a, b))
  together = jax.device_get(jax.jit(jax.vmap(run_all))(*twice))
  for i in range(2):
    one, ab = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), (together, twice))
    assert_all_close(one, densified(compiled(*ab)), 1e-5)


@names
def test_gradients_equal_those_of_dense_and_are_finite_at_zero(name):
  def gradients(run, densify, a, b):
    def loss(a, b):
      y = full(run(densify(a), densify(b)))
      return jnp.sum(jnp.sin(y.real)) + jnp.sum(jnp.cos(y.imag))

    return jax.grad(loss, (0, 1))(a, b)

  @jax.jit
  def structured(*ab):
    return {o.name: gradients(o.run, lambda x: x, *ab) for o in OPERATIONS}

  @jax.jit
  def dense(*ab):
    return {o.name: gradients(o.dense, full, *ab) for o in OPERATIONS}

  with jax.enable_x64(True):
    ab = pair(name, 'complex128')
    got = structured(*ab)
    for key, expected in dense(*ab).items():
      size = max(np.abs(x).max() for x in jax.tree.leaves(expected))
      for x, y in zip(jax.tree.leaves(got[key]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-10 * size, err_msg=key)
    at_zero = structured(*jax.tree.map(jnp.zeros_like, ab))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(at_zero))


@names
def test_bfloat16_stays(name):
  a, b = pair(name, jnp.bfloat16)
  widened = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, 'float32')), (a, b))
  wide = map(np.asarray, densified(widened))
  results = densified(compiled(a, b))
  assert {x.dtype for x in results.values()} == {jnp.dtype('bfloat16')}
  rounded = {key: np.asarray(x, 'float32') for key, x in results.items()}
  assert_all_close(rounded, dense_all(*wide), 0.1)


@names
def test_zero_tensors(name):
  for key, result in densified(compiled(*jax.tree.map(jnp.zeros_like, pair(name)))).items():
    assert (np.asarray(result) == 0).all(), key


def test_inner_of_different_formats():
  lefts = {name: pair(name, 'complex64')[0] for name in FORMATS}
  rights = {name: pair(name)[1] for name in FORMATS}

  @jax.jit
  def all_pairs(lefts, rights):
    return {
      (m, n): (formats.inner(a, b), formats.inner(b, a))
      for m, a in lefts.items()
      for n, b in rights.items()
    }

  dense_lefts, dense_rights = densified((lefts, rights))
  for (m, n), (forth, back) in jax.device_get(all_pairs(lefts, rights)).items():
    x, y = np.asarray(dense_lefts[m]), np.asarray(dense_rights[n])
    tol = 1e-5 * np.linalg.norm(x.ravel()) * np.linalg.norm(y.ravel())
    np.testing.assert_allclose([forth, back.conj()], [np.vdot(x, y)] * 2, atol=tol, err_msg=m + n)


@pytest.mark.parametrize(
  ('name', 'total', 'product'),
  [
    ('TT', (6, 5), (8, 6)),
    ('TR', (3, 5, 5), (2, 6, 6)),
    ('CP', (9,), (18,)),
    ('Tucker', (5, 5, 9), (6, 6, 20)),
    ('partial Tucker', (5, 4, 5), (6, 4, 5)),
  ],
)
def test_ranks_add_and_multiply(name, total, product):
  a, b = pair(name)
  added, multiplied = jax.eval_shape(lambda a, b: (a + b, a * b), a, b)
  assert added.ranks == total
  assert multiplied.ranks == product
  assert type(added) is type(multiplied) is type(a)


def test_partial_tucker_keeps_its_whole_modes():
  a, b = pair('partial Tucker')
  assert (a + b).factors[1:] == (b * a).factors[1:] == (None, None)
  assert (a + b).core.shape == (5, 4, 5)
  assert formats.take(a, 2, 2).factors[1:] == (None,)


@names
def test_complex_and_mixed_types_reach_every_array(name):
  a, b = pair(name)
  x, y = map(np.asarray, densified((a, b)))
  turn = 1j * np.eye(4, dtype='complex64')

  @jax.jit
  def results(a, b):
    return 1j * a, formats.mode_product(a, jnp.asarray(turn), 1), a + 1j * b, 1j * b * a

  found = results(a, b)
  for result, dense, expected in zip(
    found, densified(found), (1j * x, 1j * x, x + 1j * y, 1j * y * x), strict=True
  ):
    assert gap(dense, expected) < 1e-5
    assert {y.dtype for y in result.arrays} == {jnp.dtype('complex64')}
    if isinstance(result, tn.CP):
      assert result.weights.dtype == 'float32'


@names
def test_scalars_of_all_kinds_on_both_sides(name):
  a, _ = pair(name)
  expected = 2 * np.asarray(densified(a))
  for c in (2, 2.0, np.float32(2), jnp.float32(2), np.array(2, 'float32')):
    for result in (c * a, a * c):
      assert gap(densified(result), expected) < 1e-6
      assert result.dtype == 'float32'


@names
def test_order_one_and_negative_or_traced_indices(name):
  kind = FORMATS[name][0]
  ranks = {'TT': (), 'CP': 3, 'TR': 3, 'Tucker': 2}.get(name, (None,))
  x = formats.random(kind, jax.random.key(3), (4,), ranks)
  dense = np.asarray(x.full())
  element = formats.take(x, -1, 0)
  assert element.shape == ()
  assert abs(element - dense[-1]) < 1e-5
  traced = jax.jit(lambda i: formats.take(x, i, 0))
  np.testing.assert_allclose([traced(i) for i in range(4)], dense, rtol=1e-5, atol=1e-5)
  assert np.isnan(traced(4))

  @jax.jit
  def results(x):
    return (
      (x + x).full(),
      (x * x).full(),
      formats.take(x, PICK, 0).full(),
      formats.to_tt(x).full(),
      formats.to_tr(x).full(),
      formats.to_tucker(x).full(),
      formats.norm(x),
      formats.inner(x, x),
    )

  expected = (
    *(2 * dense, dense**2, dense[PICK], dense, dense, dense),
    *(np.linalg.norm(dense), dense @ dense),
  )
  for result, reference in zip(results(x), expected, strict=True):
    assert gap(result, reference) < 1e-5


@names
def test_norm_of_a_nearly_cancelling_sum_keeps_its_digits(name):
  a, _ = pair(name)
  eps = float(jnp.finfo(a.dtype).eps)
  c = jnp.float32(1 + 64 * eps)
  rest, size = jax.jit(lambda a: (formats.norm(a - c * a), formats.norm(a)))(a)
  assert abs(rest - 64 * eps * size) < 16 * eps * size


@names
@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_norm_of_small_and_large_tensors(name, scale):
  a, _ = pair(name)
  size, slope = jax.jit(jax.value_and_grad(lambda c: formats.norm(c * a)))(jnp.float32(scale))
  unit = np.linalg.norm(np.asarray(densified(a)).ravel())
  np.testing.assert_allclose([size / scale, slope], [unit] * 2, rtol=1e-5)


def test_second_derivative_of_the_norm():
  with jax.enable_x64(True):
    a, _ = pair('TT', 'float64')

    def curvature(size):
      along = lambda t: size(jax.tree.map(lambda x: x + t * jnp.cos(x), a))  # noqa: E731
      return jax.jit(jax.grad(jax.grad(along)))(0.0)

    dense = curvature(lambda x: jnp.linalg.norm(x.full().ravel()))
    np.testing.assert_allclose(curvature(formats.norm), dense, rtol=1e-9)


@pytest.mark.parametrize('name', ['TT', 'TR', 'CP'])
def test_nothing_is_densified(name):
  ones = {
    'TT': tn.TT((jnp.ones((1, 9, 1)),) * 20),
    'TR': tn.TR((jnp.ones((1, 9, 1)),) * 20),
    'CP': tn.CP(jnp.ones(1), (jnp.ones((9, 1)),) * 20),
  }[name]
  entries = 9.0**20
  twos = ones + ones
  np.testing.assert_allclose(formats.inner(ones, twos * twos), 4 * entries, rtol=1e-5)
  np.testing.assert_allclose(formats.norm(twos), 2 * entries**0.5, rtol=1e-5)
  part = formats.mode_product(formats.take(twos, 1, 10), jnp.full((9, 9), 1 / 9), 7)
  np.testing.assert_allclose(formats.norm(part), 2 * (entries / 9) ** 0.5, rtol=1e-5)


def test_shuffled_is_scaled_and_measured_and_refuses_the_rest():
  index = jax.random.permutation(jax.random.key(0), 60).astype('int32')
  x = tn.Shuffled(pair('TT')[0], index, (6, 10))
  np.testing.assert_allclose((-2 * x).full(), -2 * x.full(), rtol=1e-6)
  np.testing.assert_allclose(formats.norm(x), np.linalg.norm(x.full()), rtol=1e-5)
  for refused in (
    lambda: x + x,
    lambda: x * x,
    lambda: formats.inner(x, x),
    lambda: formats.take(x, 0, 0),
    lambda: formats.mode_product(x, jnp.ones((2, 6)), 0),
    lambda: formats.to_tt(x),
    lambda: formats.to_tr(x),
    lambda: formats.to_tucker(x),
  ):
    with pytest.raises(ValueError, match=r'is a Shuffled.*\.tensor'):
      refused()


TT, CP = pair('TT')[0], pair('CP')[0]
OTHER = formats.random(tn.TT, jax.random.key(0), (3, 4, 6), 2)


@pytest.mark.parametrize(
  ('bad', 'text'),
  [
    (lambda: TT + OTHER, r'b has shape \(3, 4, 6\).*\(3, 4, 5\)'),
    (lambda: TT * OTHER, r'b has shape \(3, 4, 6\).*\(3, 4, 5\)'),
    (lambda: formats.inner(CP, OTHER), r'b has shape \(3, 4, 6\).*\(3, 4, 5\)'),
    (lambda: TT + CP, r'b is a CP and a is a TT.*to_tt'),
    (lambda: TT * CP, r'b is a CP and a is a TT.*to_tt'),
    (lambda: TT * jnp.ones(3), r'c has shape \(3,\); it needs \(\)'),
    (lambda: formats.mode_product(TT, jnp.ones((2, 3)), 1), r'matrix has shape \(2, 3\).*any, 4'),
    (lambda: formats.mode_product(TT, jnp.ones(4), 1), r'matrix has shape \(4,\).*any, 4'),
    (lambda: formats.mode_product(TT, jnp.ones((2, 4)), 3), r'mode=3.*\(3, 4, 5\) needs -3\.\.2'),
    (lambda: formats.take(TT, 0, -4), r'mode=-4.*\(3, 4, 5\) needs -3\.\.2'),
    (lambda: formats.take(CP, 4, 1), r'index=4.*size 4 needs -4\.\.3'),
    (lambda: formats.take(CP, [0, -5], 1), r'index=\[ ?0 -5\].*size 4 needs -4\.\.3'),
    (lambda: formats.take(CP, 0.5, 1), r'index has shape \(\) and dtype float32'),
    (lambda: formats.take(CP, [[0]], 1), r'index has shape \(1, 1\)'),
  ],
)
def test_errors_name_the_argument_and_what_it_needs(bad, text):
  with pytest.raises(ValueError, match=text):
    bad()


def test_only_records_are_added():
  with pytest.raises(TypeError, match='unsupported operand'):
    TT + 1.0
  with pytest.raises(TypeError, match='unsupported operand'):
    TT - 1.0
