"""ArcFace and LPIPS: used for the figures where their files are on this computer, and never fetched."""

import numpy as np
import pytest
import torch
from eg3d_tiny import assert_close

from my3dgen.errors import My3DGenError
from my3dgen.evaluation import metrics
from my3dgen.faces.align import STANDARD_FIVE
from my3dgen.models import arcface, lpips

ARCFACE_FIVE = [
    [38.2946, 51.6963],
    [73.5318, 51.5014],
    [56.0252, 71.7366],
    [41.5493, 92.3655],
    [70.7299, 92.2041],
]


def tiny_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights of every name and shape in a file of a few kilobytes: each tensor repeats one value."""
    state = {}
    for name, value in network.state_dict().items():
        one = torch.zeros((), dtype=value.dtype) if "tracked" in name else torch.tensor(0.01)
        state[name] = one.expand(value.shape)
    return state


def on_meta() -> arcface.ArcFace:
    with torch.device("meta"):
        return arcface.ArcFace()


@pytest.fixture
def folder(empty_cache):
    yield empty_cache
    arcface._load.cache_clear()
    lpips._load.cache_clear()


def test_arcface_has_the_names_and_shapes_of_its_file():
    state = {name: tuple(value.shape) for name, value in on_meta().state_dict().items()}
    expected = {
        "input_layer.0.weight": (64, 3, 3, 3), "input_layer.1.running_mean": (64,), "input_layer.2.weight": (64,),
        "body.0.res_layer.0.weight": (64,), "body.0.res_layer.1.weight": (64, 64, 3, 3),
        "body.0.res_layer.2.weight": (64,), "body.0.res_layer.3.weight": (64, 64, 3, 3),
        "body.0.res_layer.4.running_var": (64,), "body.0.res_layer.5.fc1.weight": (4, 64, 1, 1),
        "body.0.res_layer.5.fc2.weight": (64, 4, 1, 1), "body.3.shortcut_layer.0.weight": (128, 64, 1, 1),
        "body.3.shortcut_layer.1.bias": (128,), "body.7.shortcut_layer.0.weight": (256, 128, 1, 1),
        "body.21.shortcut_layer.0.weight": (512, 256, 1, 1), "body.23.res_layer.5.fc2.weight": (512, 32, 1, 1),
        "output_layer.0.weight": (512,), "output_layer.3.weight": (512, 25088), "output_layer.3.bias": (512,),
        "output_layer.4.running_mean": (512,),
    }  # fmt: skip
    assert expected.items() <= state.items()
    assert len({name.split(".")[1] for name in state if name.startswith("body")}) == 24
    assert "body.0.shortcut_layer.0.weight" not in state  # the same width: no convolution, though a stride
    assert sum(p.numel() for p in on_meta().parameters()) == 43_797_696


def test_arcface_of_narrow_layers_runs():
    torch.manual_seed(0)
    network = arcface.ArcFace(((16, 1), (16, 1), (32, 2), (32, 1))).eval()
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    images.requires_grad_()
    vectors = network.embed(images)
    assert vectors.shape == (2, 512)
    assert_close(vectors.norm(dim=1), torch.ones(2), 1e-5)
    vectors[:, 0].sum().backward()
    assert images.grad.abs().sum() > 0


def test_the_window_lays_our_crop_on_arcface():
    points = 0.5 + STANDARD_FIVE[:, :2] * [300 / 700, -300 / 700]  # of the crop
    left, top, side = arcface.WINDOW
    found = (points - [left, top]) / side * arcface.INPUT
    assert np.abs(found - ARCFACE_FIVE).max() < 1.0
    picture = torch.full((1, 3, 512, 512), -1.0)
    x, y = (points[2] * 512).astype(int)
    picture[..., y - 4 : y + 4, x - 4 : x + 4] = 1.0
    at = torch.nonzero(arcface.aligned(picture)[0, 0] > 0).float().mean(0)
    assert abs(at[1] - 56.0) < 1.5 and abs(at[0] - 71.7) < 1.5


def test_our_own_networks_where_there_are_no_others(folder):
    assert metrics.networks() == {"identity": "my3dgen-identity-metrics", "perceptual": "my3dgen-perceptual"}
    assert list(folder.iterdir()) == []


def test_arcface_makes_the_figures_where_its_file_is(folder):
    path = folder / "model_ir_se50.pth"
    torch.save(tiny_state(on_meta()), path)
    assert path.stat().st_size < 200_000
    assert metrics.networks()["identity"] == "arcface-ir-se50"
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    (vector,) = metrics.embed([image])
    assert vector.shape == (512,) and torch.isfinite(vector).all()
    assert metrics.identity_network() is metrics.identity_network()  # read once
    state = tiny_state(on_meta())
    torch.save({name: value for name, value in state.items() if "tracked" not in name}, path)
    arcface._load.cache_clear()
    assert metrics.networks()["identity"] == "arcface-ir-se50"  # as old versions of torch wrote it


class Attack:
    def __reduce__(self):
        return open, ("executed", "w")


@pytest.mark.parametrize("what", ["nothing", "text", "other network", "code"])
def test_what_is_not_arcface_is_one_sentence(folder, monkeypatch, what):
    monkeypatch.chdir(folder)
    path = folder / "model_ir_se50.pth"
    if what in ("nothing", "text"):
        path.write_bytes(b"" if what == "nothing" else b"not weights")
    else:
        torch.save({"weight": torch.ones(1)} if what == "other network" else Attack(), path)
    with pytest.raises(My3DGenError, match="does not hold ArcFace") as error:
        metrics.networks()
    assert "\n" not in str(error.value)
    assert not (folder / "executed").exists()


def test_lpips_makes_the_figures_where_its_trunk_is(folder):
    torchvision = pytest.importorskip("torchvision")
    pytest.importorskip("lpips")
    assert lpips.load_lpips() is None
    lpips.trunk_file().parent.mkdir(parents=True)
    assert str(lpips.trunk_file()).startswith(str(folder))
    torch.manual_seed(0)
    with torch.device("meta"):
        trunk = torchvision.models.alexnet()
    state = tiny_state(trunk)
    for name, value in state.items():
        if name.startswith("features"):
            state[name] = 0.05 * torch.randn(value.shape)
    torch.save(state, lpips.trunk_file())
    assert metrics.networks()["perceptual"] == "lpips-alex"
    distance = metrics.perceptual_network()
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    assert distance(a, b).shape == (2,)
    assert (distance(a, b) > 0).all()
    assert_close(distance(a, a), torch.zeros(2), 1e-6)
    mask = torch.ones(2, 1, 64, 64)
    assert_close(distance(a, b, mask), distance(a, b), 1e-6)
    mask[..., :32] = 0
    changed = torch.where(mask > 0, a, -a)
    assert_close(distance(changed, b, mask), distance(a, b, mask), 1e-6)  # what does not count does not count
