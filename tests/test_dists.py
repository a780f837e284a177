"""DISTS: the formula, the layout of its published files, and that it appears only where they are."""

from importlib import import_module

import numpy as np
import pytest
import torch

import my3dgen
from my3dgen.cli import making
from my3dgen.errors import My3DGenError
from my3dgen.models import dists
from my3dgen.priors import releases
from my3dgen.tasks import result

synthesize = import_module("my3dgen.tasks.synthesize")  # my3dgen.tasks gives the function of that name
NARROW = (((3, 8),), ((8, 8), (8, 12)), ((12, 12),))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = dists.DISTS(NARROW).eval().requires_grad_(False)
    network.alpha.uniform_(0.05, 0.2)
    network.beta.uniform_(0.05, 0.2)
    return network


@pytest.fixture
def folder(empty_cache):
    yield empty_cache
    dists._load.cache_clear()


def pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_papers_formula(network):
    """Written out again in numpy, one channel at a time, on the network's own features."""
    a, b = pictures()
    expected, at = 0.0, 0
    alpha, beta = network.alpha.numpy().astype(float), network.beta.numpy().astype(float)
    for x, y in zip(network.features(a[None]), network.features(b[None]), strict=True):
        for p, q in zip(x[0].double().numpy(), y[0].double().numpy(), strict=True):
            texture = (2 * p.mean() * q.mean() + 1e-6) / (p.mean() ** 2 + q.mean() ** 2 + 1e-6)
            covariance = ((p - p.mean()) * (q - q.mean())).mean()
            structure = (2 * covariance + 1e-6) / (p.var() + q.var() + 1e-6)
            expected += alpha[at] * texture + beta[at] * structure
            at += 1
    assert at == 3 + 8 + 12 + 12
    assert float(network(a[None], b[None])) == pytest.approx(
        1 - expected / (alpha.sum() + beta.sum()), abs=1e-5
    )


def test_pooling_is_the_root_of_blurred_squares(network):
    x = torch.rand(1, 1, 4, 4)
    hann = np.hanning(5)[1:-1]
    kernel = np.outer(hann, hann) / np.outer(hann, hann).sum()
    squares = np.pad(x[0, 0].double().numpy() ** 2, 1)
    expected = [
        [np.sqrt((squares[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel).sum() + 1e-12) for j in (0, 1)]
        for i in (0, 1)
    ]
    assert np.allclose(network._pooled(x)[0, 0].numpy(), expected, atol=1e-6)


def test_what_it_measures(network):
    a, b = pictures()
    a, b = a[None], b[None]
    assert float(network(a, a)) == pytest.approx(0, abs=1e-6)
    assert float(network(a, b)) == pytest.approx(float(network(b, a)), abs=1e-6)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(2))
    values = [float(network(a, (a + s * noise).clamp(-1, 1))) for s in (0.05, 0.3, 1.0)]
    assert 0 < values[0] < values[1] < values[2]
    # the same texture elsewhere is closer than another brightness is after the same change of pixels
    assert network(a, a.roll(20, -1)) < network(a, -torch.ones_like(a))
    mask = torch.ones(1, 1, 64, 64)
    mask[..., :32] = 0
    changed = torch.where(mask > 0, a, torch.ones_like(a))
    assert float(network(changed, b, mask)) == pytest.approx(float(network(a, b, mask)), abs=1e-6)
    image = a.clone().requires_grad_(True)
    network(image, b).sum().backward()
    assert torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0


def published_state() -> tuple[dict, dict]:
    """Both files' names and shapes, each tensor one repeated value: kilobytes on disk."""
    with torch.device("meta"):
        own = dists.DISTS().state_dict()
    one = torch.tensor(0.01)
    trunk = {theirs: one.expand(own[ours].shape) for ours, theirs in dists.trunk_names().items()}
    trunk["classifier.0.weight"] = one.expand(4096, 25088)  # there, and not for us
    return {"alpha": one.expand(1, 1475, 1, 1), "beta": one.expand(1, 1475, 1, 1)}, trunk


def save(folder) -> None:
    weights, trunk = published_state()
    torch.save(weights, folder / releases.HELPERS["dists"].official_file)
    torch.save(trunk, folder / releases.HELPERS["vgg16"].official_file)


def test_the_layout_of_the_published_files():
    names = [n for n in dists.trunk_names().values() if n.endswith("weight")]
    assert [int(n.split(".")[1]) for n in names] == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    weights, trunk = published_state()
    assert tuple(trunk["features.28.weight"].shape) == (512, 512, 3, 3)
    assert weights["alpha"].numel() == 3 + 64 + 128 + 256 + 512 + 512
    assert releases.HELPERS["vgg16"].official_file == dists.TRUNK


@pytest.fixture
def face():
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    return my3dgen.prepare([pixels], kind="cat")[0]


def test_the_figure_is_there_only_with_both_files(folder, face):
    image = 255 - face.image
    without = result.beside_photo(image, face)
    assert set(without) == {"perceptual"} and set(result.networks(without)) == {"identity", "perceptual"}
    save(folder)
    figures = result.beside_photo(image, face)
    assert figures["perceptual"] == without["perceptual"] and 0 < figures["dists"] <= 2
    assert result.networks(figures)["dists"] == "dists-vgg16"
    assert result.beside_photo(face.image, face)["dists"] == pytest.approx(0, abs=1e-5)
    # the trunk may also lie where torch keeps it
    dists.trunk_file().parent.mkdir(parents=True)
    (folder / dists.TRUNK).rename(dists.trunk_file())
    assert result.dists_network() is not None
    dists.trunk_file().unlink()
    assert result.dists_network() is None


class Attack:
    def __reduce__(self):
        return open, ("executed", "w")


@pytest.mark.parametrize("what", ["nothing", "text", "other network", "other shape", "code"])
def test_what_is_not_dists_is_one_sentence(folder, monkeypatch, what):
    monkeypatch.chdir(folder)
    save(folder)
    path = folder / releases.HELPERS["dists"].official_file
    if what in ("nothing", "text"):
        path.write_bytes(b"" if what == "nothing" else b"not weights")
    else:
        bad = {"other network": {"weight": torch.ones(1)}, "other shape": {"alpha": torch.ones(3)}}
        torch.save(bad.get(what) or Attack(), path)
    with pytest.raises(My3DGenError, match="does not hold what DISTS needs") as error:
        result.dists_network()
    assert "\n" not in str(error.value) and not (folder / "executed").exists()


def test_downloading_it_fetches_what_it_needs(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("my3dgen.priors.catalogue.fetch", lambda name, _: asked.append(name) or folder / name)
    status, said = making.download(type("Arguments", (), {"name": "dists"}))
    assert status == 0 and asked == ["dists", "vgg16"]
    assert [str(folder / name) for name in asked] == said["files"]
    assert all(releases.HELPERS[name].licence in said["licence"] for name in asked)


def test_diversity_is_measured_by_the_network_that_is_named(monkeypatch):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    own = synthesize.diversity(frames)
    assert own[0] > 0

    class Other:
        name = "another network"

        def __call__(self, a, b):
            return (a - b).abs().mean()[None]

    monkeypatch.setattr(synthesize, "perceptual_network", Other)
    small = [synthesize._small(frame) for frame in frames]
    expected = [float((small[i] - small[j]).abs().mean()) for j in range(4) for i in range(j)]
    assert synthesize.diversity(frames) == pytest.approx((np.mean(expected), np.std(expected)))
    monkeypatch.setattr(synthesize, "MOST_PAIRS", 3)
    assert synthesize.diversity(frames)[0] == pytest.approx(np.mean([expected[0], expected[2], expected[5]]))
    assert synthesize.diversity(frames[:1]) == (0.0, 0.0)
