"""The skeleton on an image of one's own."""

import numpy as np
import pytest
from flax import nnx
from PIL import Image

import tnjax as tn
from experiments.pose import predict
from tests.experiments.pose import pose_files


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('predict')
  net = tn.models.hourglass(stacks=1, depth=1, features=4, num_joints=14, rngs=nnx.Rngs(0))
  small, _ = tn.compress(
    net, ((r'stacks/(\d+)/levels/(\d+)/(skip|down|up)/conv(\d+)', tn.schemes.joint(ranks=2)),)
  )
  for name, model in {'dense': net, 'joint': small}.items():
    tn.save(folder / f'{name}.safetensors', model, notes={'dataset': 'lspet', 'size': 32})
  tn.save(folder / 'other.safetensors', net)
  pose_files.image(folder / 'a.jpg', 60, 40)
  (folder / 'text.jpg').write_text('no image')
  return folder


@pytest.mark.parametrize('name', ['dense', 'joint'])
def test_every_joint_is_printed_and_drawn(files, capsys, name):
  path = files / f'{name}.png'
  predict.main(['', f'{files}/a.jpg'], f'{files}/{name}.safetensors', None, str(path))
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 15
  assert lines[0].startswith('   right ankle')
  assert lines[-1] == f'wrote {path}'
  with Image.open(path) as picture:
    assert picture.size == (420, 280)


def test_places_are_those_of_the_image():
  """A network that finds a red spot, wherever it is and whatever square is looked at."""

  class Red(nnx.Module):
    def __call__(self, images):
      found = images[..., 0] - images[..., 1]
      return found.reshape(-1, 8, 4, 8, 4).mean((2, 4))[None, ..., None]

  pixels = np.zeros((100, 200, 3), 'uint8')
  pixels[48:52, 126:130, 0] = 255
  image = Image.fromarray(pixels)
  for text in (None, ('120', '40', '64'), ('140', '60', '100')):
    box = predict.box_of(text, image)
    joints, peaks = predict.predict(Red(), image, box, 32)
    np.testing.assert_allclose(joints[0], [128, 50], atol=box[0, 2] / 8 / 2 + 1)
    assert peaks.shape == (1,)


@pytest.mark.parametrize(
  ('image', 'weights', 'box', 'words'),
  [
    ('b.jpg', 'dense', None, 'b.jpg does not exist'),
    ('', 'dense', None, 'is a folder'),
    ('text.jpg', 'dense', None, 'text.jpg holds no whole image'),
    ('a.jpg', 'nothing', None, '--weights=.*nothing.safetensors does not exist'),
    ('a.jpg', 'other', None, 'other.safetensors is not of a network that experiments.pose.main'),
    ('a.jpg', 'dense', ('1', '2'), '--box=1,2 must be X,Y,SIDE'),
    ('a.jpg', 'dense', ('1', '2', '0'), '--box=1,2,0 must be X,Y,SIDE'),
    ('a.jpg', 'dense', ('9', '9', '1e10'), '--box=9,9,1e10 is larger than 8 times an image of 60'),
    ('a.jpg', 'dense', ('90', '2', '20'), '--box=90,2,20 shows nothing of an image of 60 x 40'),
  ],
)
def test_bad_input_is_one_line(files, image, weights, box, words):
  with pytest.raises(SystemExit, match=f'^error: .*{words}'):
    predict.main(['', f'{files}/{image}'], f'{files}/{weights}.safetensors', box, None)


def test_the_image_itself_is_not_written_over(files):
  content = (files / 'a.jpg').read_bytes()
  with pytest.raises(SystemExit, match='a.jpg is the image itself, which would be lost'):
    predict.main(['', f'{files}/a.jpg'], f'{files}/dense.safetensors', None, f'{files}/./a.jpg')
  assert (files / 'a.jpg').read_bytes() == content


def test_images_are_turned_as_the_camera_says(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # a quarter turn
  Image.new('RGB', (30, 20)).save(tmp_path / 'a.jpg', exif=exif)
  assert predict.read(str(tmp_path / 'a.jpg')).size == (20, 30)
