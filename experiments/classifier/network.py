"""The network under compression: building, and loading trained weights."""

import contextlib
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from flax import nnx

import tnjax as tn
from experiments.common.arrays import host

_NOTES = {
  'dataset': str,
  'model': str,
  'layers': str,
  'scheme': object,
  'rate': object,
  'seed': int,
}

_VGG = {f'vgg{depth}': functools.partial(tn.models.vgg, depth) for depth in (11, 13, 16, 19)}
_RESNET = {f'resnet{d}': functools.partial(tn.models.resnet, d) for d in (18, 34, 50, 101, 152)}
_NAMED = {
  'mnist': {'lenet': tn.models.lenet, 'mlp': tn.models.mlp},
  'imagenet': {
    **_VGG,
    **{f'{name}_bn': functools.partial(build, norm=True) for name, build in _VGG.items()},
    'alexnet': tn.models.alexnet,
    **_RESNET,
  },
}


def build(
  name: str,
  dataset: str,
  seed: int,
  num_classes: int = 10,
  mean: Sequence[float] | None = None,
  std: Sequence[float] | None = None,
) -> nnx.Module:
  """A randomly initialised `resnet<depth>` (version 1, padding), `resnet<depth>_projection` or
  `resnet<depth>_v2` (version 2, projections), for the digits with one input channel and 32 channels
  in every stage; for MNIST `lenet` or `mlp`; for ImageNet a network of torchvision by its name
  there; for CIFAR-10 also `vgg<depth>`, with batch norm and two dense layers, at a quarter of the
  width `vgg<depth>_quarter`, or with one dense layer `vgg<depth>_bn`, without norm
  `vgg<depth>_plain`. `mean` and `std` are by default those of the network.
  """
  given = {k: v for k, v in (('mean', mean), ('std', std)) if v is not None}
  given['rngs'] = nnx.Rngs(seed)
  if dataset in _NAMED:
    found = _NAMED[dataset]
    if name not in found:
      raise ValueError(f'--model={name} must be one of {", ".join(found)}, for {dataset}')
    return found[name](num_classes=num_classes, **given)
  vgg = re.fullmatch(r'vgg(11|13|16|19)(_quarter|_bn|_plain)?', name)
  if dataset == 'cifar10' and vgg:
    return _cifar_vgg(int(vgg[1]), vgg[2], num_classes, given)
  found = re.fullmatch(r'resnet(\d{1,4})(_v2|_projection)?', name)
  if not found:
    names = 'resnet<depth>, resnet<depth>_projection or resnet<depth>_v2'
    if dataset == 'cifar10':
      names += ', or vgg11, 13, 16, 19, each also with _quarter, _bn or _plain'
    raise ValueError(f'--model={name} must be {names}')
  depth, kind = found.groups()
  options = {'shortcut': 'projection'} if kind else {}
  options |= {'version': 2} if kind == '_v2' else {}
  if dataset == 'digits':  # one kernel shape, so that each scheme is compiled once
    options |= {'widths': (32, 32, 32), 'mean': (0.3,), 'std': (0.38,)}
  try:
    return tn.models.cifar_resnet(int(depth), **options | given)
  except ValueError as error:
    raise ValueError(f'--model={name}: {error}') from None


def of(config: object, seed: int, num_classes: int = 10) -> nnx.Module:
  """As `build`, by settings that are a `classifier.Config`."""
  return build(config.model, config.dataset, seed, num_classes, config.mean, config.std)


def _cifar_vgg(depth: int, kind: str | None, num_classes: int, given: Mapping) -> nnx.Module:
  part = 4 if kind == '_quarter' else 1
  widths = [width // part for width in (64, 128, 256, 512, 512)]
  head = {'pool': 1, 'hidden': () if kind in ('_bn', '_plain') else (4096 // part,)}
  head |= {'num_classes': num_classes, 'norm': kind != '_plain'}
  return tn.models.vgg(depth, widths=widths, **head, **given)


def layers(name: str, dataset: str) -> str:
  """Pattern of the layers that are compressed by default: all convolutions but the first.

  For MNIST, where that leaves next to nothing, the hidden dense layers too.

  >>> layers('resnet50', 'imagenet'), layers('resnet32', 'cifar10'), layers('vgg16', 'cifar10')
  ('layer[1-4]/.*', 'stages/.*', 'features/(?!0$).*')
  """
  if dataset == 'mnist':
    return 'layers/.*' if name == 'mlp' else 'conv2|hidden'
  if name.startswith(('vgg', 'alexnet')):
    return 'features/(?!0$).*'
  return 'layer[1-4]/.*' if dataset == 'imagenet' else 'stages/.*'


def file(path: str | pathlib.Path) -> str | pathlib.Path:
  """The file that a path is of, fetched if need be where it is 'hf:OWNER/NAME', as which it may be
  given everywhere here.

  Raises:
    ValueError: it cannot be fetched.
  """
  return tn.models.fetch_weights(path) if str(path).startswith('hf:') else path


def description(path: str | pathlib.Path) -> dict | None:
  """What the job noted in a file of its own; None for any other file. 'image_size' is not in those
  from before there was ImageNet.

  Raises:
    ValueError: one of ours that is damaged.
  """
  if not _ours(path):
    return None
  about = tn.compression.describe(file(path))
  notes = about.get('notes', about)  # before tn.save, the notes were all there was
  if isinstance(notes, dict):
    known = _NOTES | {'image_size': int | None} if 'image_size' in notes else _NOTES
    if notes.keys() >= known.keys() and all(isinstance(notes[n], k) for n, k in known.items()):
      return notes
    if 'format' in about and not notes.keys() >= _NOTES.keys():
      return None  # written by tn.save, but not by this job
  raise ValueError(f'{path} has a damaged description; write it again')


def guess(path: str | pathlib.Path) -> str:
  """The name of the network whose weights a file has that does not say, by counting its blocks.

  Raises:
    FileNotFoundError, ValueError: as `load`.
  """
  if _ours(path):
    names = tn.compression.describe(file(path)).get('arrays', {})
  else:
    names = tn.models.read_weights(path)
  blocks = {found[0] for name in names if (found := re.match(r'(layer|stages/)\d+[./]\d+', name))}
  v1 = any(re.search(r'(shortcut|downsample)[.]1|/projection_norm/', name) for name in names)
  v2 = any(re.search(r'(shortcut|downsample)[.]0|/projection/', name) for name in names)
  kind = '_projection' if v1 else '_v2' if v2 else ''
  if not blocks:
    raise ValueError(f'{path} has no block of a residual network in it; add --model')
  return f'resnet{2 * len(blocks) + 2}{kind}'


def load(path: str | pathlib.Path, model: nnx.Module) -> nnx.Module:
  """The network in a file, ours or in PyTorch naming.

  Args:
    path: the file.
    model: its architecture, dense; left unchanged.

  Raises:
    FileNotFoundError, ValueError: no such file, damaged, or of another architecture; names the
      first array that does not fit and both shapes.
  """
  if _ours(path):
    found = tn.load(file(path), model=model)
    with _naming(path):
      for name, v in nnx.to_flat_state(nnx.state(found, nnx.Any(nnx.Param, nnx.BatchStat))):
        tn.models.check_weights('/'.join(map(str, name)), host(v[...]))
    return found
  arrays = tn.models.read_weights(path)
  found = nnx.clone(model)
  with _naming(path):
    tn.models.import_torch(found, arrays)
  return found


def check_dense(path: str | pathlib.Path, model: nnx.Module) -> None:
  """Raises ValueError if the model of a file has been compressed already."""
  for place in tn.compression.walk(model).values():
    if place.factorised:
      raise ValueError(
        f'{path}: layer {place.path!r} is compressed already; --weights takes a network before '
        'compression, --eval any'
      )


@contextlib.contextmanager
def _naming(path: str | pathlib.Path) -> Iterator[None]:
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def _ours(path: str | pathlib.Path) -> bool:
  """Whether a library or job of tnjax, now or before there was tn.save, wrote it."""
  from safetensors import SafetensorError, safe_open

  try:
    with safe_open(file(path), 'np') as opened:
      return 'tnjax' in (opened.metadata() or {})
  except (SafetensorError, OSError):
    return False
