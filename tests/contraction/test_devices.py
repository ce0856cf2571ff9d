"""Devices by name and kind, and what 16 bits cost."""

import dataclasses
import types
import warnings

import jax
import pytest

from tnjax.contraction import DEVICES, Network, Problem, current_device, explain, schedule

NET = Network(('a', 'b'), (('s1', 'r'), ('r', 't1')), (('s1', 4096), ('t1', 4096), ('r', 1024)))
PROBLEM = Problem(NET, ('s1',), ('t1',), batch=65536)

KINDS = {
  'NVIDIA A100-SXM4-80GB': 'A100',
  'NVIDIA H100 80GB HBM3': 'H100',
  'NVIDIA H200': 'H200',
  'NVIDIA B200': 'B200',
  'NVIDIA L4': 'L4',
  'NVIDIA GeForce RTX 4090': 'RTX 4090',
  'AMD Instinct MI300X': 'MI300X',
  'TPU v4': 'TPU v4',
  'TPU v5 lite': 'TPU v5e',
  'TPU v5e': 'TPU v5e',
  'TPU v5': 'TPU v5p',
  'TPU v5p': 'TPU v5p',
  'TPU v6 lite': 'TPU v6e',
  'TPU v6e': 'TPU v6e',
  'TPU7x': 'TPU v7x',
}


@pytest.fixture
def attached(monkeypatch):
  """Lets jax tell another device."""

  def attach(kind, platform):
    device = types.SimpleNamespace(device_kind=kind, platform=platform)
    monkeypatch.setattr(jax, 'devices', lambda *_: [device])
    monkeypatch.setattr(jax, 'default_backend', lambda: platform)

  return attach


@pytest.mark.parametrize('kind', KINDS)
def test_kinds_are_known_without_a_warning(kind, attached):
  attached(kind, 'tpu' if kind.startswith('TPU') else 'gpu')
  assert current_device() == KINDS[kind]
  assert sum(k == KINDS[kind] for k in DEVICES) == 1


@pytest.mark.parametrize(
  ('kind', 'platform', 'taken'),
  [
    ('NVIDIA L40S', 'gpu', 'A100'),
    ('NVIDIA GeForce RTX 4090 Laptop GPU', 'gpu', 'A100'),
    ('Tesla V100-SXM2-16GB', 'gpu', 'A100'),
    ('TPU v3', 'tpu', 'TPU v4'),
    ('TPU v9', 'tpu', 'TPU v4'),
    ('Abacus', 'METAL', 'cpu'),
  ],
)
def test_an_unknown_kind_is_said_so(kind, platform, taken, attached):
  attached(kind, platform)
  with pytest.warns(UserWarning, match=f'no entry for {kind!r}.*for {taken!r}'):
    assert current_device() == taken


def test_a_row_of_ones_own_is_found(attached, monkeypatch):
  attached('Abacus 9000', 'METAL')
  row = dataclasses.replace(DEVICES['H100'], kinds='abacus')
  monkeypatch.setitem(DEVICES, 'abacus', row)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert current_device() == 'abacus'


@pytest.mark.parametrize('name', ['h100', 'RTX 4090', 'rtx 4090', 'tpu V6E', 'CPU'])
def test_names_are_matched_in_any_case(name):
  found = schedule(PROBLEM, device=name)
  assert found.device.lower() == name.lower()
  assert found == schedule(PROBLEM, device=found.device)


def test_every_row_names_its_source_and_has_rates():
  for name, device in DEVICES.items():
    assert device.source, name
    assert 0 < device.flops <= device.half_flops, name
    assert device.flops > device.bandwidth > 0, name


def test_16_bits_take_half_the_bytes_and_the_rate_of_their_own():
  wide, half = (schedule(PROBLEM, device='h100', dtype=t) for t in ('float32', 'bfloat16'))
  ratio = wide.seconds / half.seconds
  assert 1.5 < ratio < 2.1  # bound by arithmetic: 495 and 989 TFLOP/s
  assert half.dtype == 'bfloat16'
  assert 'bfloat16' in explain(half)
  slim = Problem(NET, ('s1',), ('t1',), batch=1)
  costs = [schedule(slim, 'bytes', device='h100', dtype=t) for t in ('float32', 'bfloat16')]
  assert costs[0].steps == costs[1].steps
  assert costs[0].seconds > 1.3 * costs[1].seconds  # bound by memory
