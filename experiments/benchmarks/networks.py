"""A training step of a whole network, compressed beside dense: trace, compile, run, and host."""

import time

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import tnjax as tn

_STEPS = 5


def train_steps(model: str, rates: dict[str, float], batch: int) -> list[dict]:
  """One entry for the dense CIFAR ResNet and one for each scheme at its rate.

  Args:
    model: depth of a CIFAR ResNet, such as '32'.
    rates: by scheme, on all kernels of the stages.
    batch: images of 32 x 32.

  Returns:
    By entry: name, seconds to trace and lower, to compile, of a step (the least of a few), and of
    the host's part of it: until the call returns.
  """
  dense = tn.models.cifar_resnet(int(model), rngs=nnx.Rngs(0))
  out = [_measured('dense', dense, batch)]
  for name, rate in rates.items():
    rules = (('stages/.*', tn.schemes.by_name(name, rate)),)
    small = tn.compression.skeleton(dense, rules)
    state = jax.tree.map(lambda a: jnp.full(a.shape, 0.01, a.dtype), nnx.state(small))
    nnx.update(small, state)
    out.append(_measured(f'{name} {rate:.0%}', small, batch))
  for entry in out:
    entry['compile_over_dense'] = _total(entry) / _total(out[0])
  return out


def _total(entry: dict) -> float:
  return entry['trace_seconds'] + entry['compile_seconds']


def _measured(name: str, model: nnx.Module, batch: int) -> dict:
  graph, params, rest = nnx.split(nnx.clone(model, arrays=True), nnx.Param, ...)
  optimizer = optax.sgd(1e-3)

  def loss(params: nnx.State, rest: nnx.State, x: jax.Array) -> tuple[jax.Array, nnx.State]:
    merged = nnx.merge(graph, params, rest, copy=True)
    y = merged(x, train=True)
    return jnp.mean(y**2), nnx.split(merged, nnx.Param, ...)[2]

  def step(params: nnx.State, rest: nnx.State, moments: tuple, x: jax.Array) -> tuple:
    gradient, rest = jax.grad(loss, has_aux=True)(params, rest, x)
    updates, moments = optimizer.update(gradient, moments, params)
    return optax.apply_updates(params, updates), rest, moments

  x = jnp.ones((batch, 32, 32, 3))
  state = (params, rest, optimizer.init(params))
  start = time.perf_counter()
  lowered = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*state, x)
  traced = time.perf_counter()
  compiled = lowered.compile()
  done = time.perf_counter()
  host, whole = [], []
  for _ in range(_STEPS):
    begin = time.perf_counter()
    state = compiled(*state, x)
    returned = time.perf_counter()
    jax.block_until_ready(state)
    host.append(returned - begin)
    whole.append(time.perf_counter() - begin)
  return {
    'name': name,
    'batch': batch,
    'params': sum(a.size for a in jax.tree.leaves(params)),
    'trace_seconds': traced - start,
    'compile_seconds': done - traced,
    'step_seconds': min(whole),
    'host_seconds': min(host),
  }
