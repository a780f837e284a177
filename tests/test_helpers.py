"""The networks in assets/: identity, perceptual distance, landmarks. On people and photos they never saw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import my3dgen
from my3dgen.assets import asset, weights
from my3dgen.evaluation.metrics import embed, identity_similarity, networks, perceptual_distance
from my3dgen.models.identity import load_identity
from my3dgen.models.perceptual import load_perceptual
from my3dgen.personal.images import from_uint8

EXAMPLES = Path(__file__).parent.parent / "examples"
PEOPLE = ("ada", "bruno", "chidi", "mei")


@pytest.fixture(scope="module")
def people():
    return {
        name: my3dgen.prepare([str(p) for p in sorted((EXAMPLES / name).glob("test_*.jpg"))])
        for name in PEOPLE
    }


def test_every_example_photo_is_accepted(people):
    assert [(n, f.refused) for n, faces in people.items() for f in faces if f.refused] == []


@pytest.mark.parametrize("purpose", ["loss", "metrics"])
def test_identity_tells_the_example_people_apart(people, purpose):
    network = load_identity(purpose)
    same, other = [], []
    vectors = {
        n: torch.cat([network.embed(from_uint8(f.image)[None]) for f in faces]) for n, faces in people.items()
    }
    for a in PEOPLE:
        for b in PEOPLE:
            cosine = vectors[a] @ vectors[b].T
            if a == b:
                same += cosine[~torch.eye(len(cosine), dtype=torch.bool)].tolist()
            else:
                other += cosine.flatten().tolist()
    assert np.mean(same) > 0.45 and np.mean(other) < 0.2
    auc = np.mean(np.array(same)[:, None] > np.array(other)[None])
    assert auc > (0.9 if purpose == "loss" else 0.93)


def test_identity_vectors_are_unit_and_differentiable(people):
    image = from_uint8(people["ada"][0].image)[None].requires_grad_(True)
    vector = load_identity("loss").embed(image)
    assert vector.shape == (1, 512) and float(vector.detach().norm()) == pytest.approx(1, abs=1e-5)
    vector.sum().backward()
    assert image.grad.abs().sum() > 0


def test_the_two_encoders_are_different_networks():
    loss, metrics = load_identity("loss"), load_identity("metrics")
    assert loss.name != metrics.name
    assert {k for k, _ in loss.named_parameters()} != {k for k, _ in metrics.named_parameters()}
    with pytest.raises(my3dgen.My3DGenError, match="no identity encoder"):
        load_identity("both")


def test_id_sim_takes_the_best_reference(people):
    ada, bruno = people["ada"], people["bruno"]
    assert identity_similarity([ada[0]], [bruno[0], ada[0]]) == pytest.approx(1, abs=1e-5)
    assert identity_similarity([ada[0]], bruno) < identity_similarity([ada[0]], ada[1:])
    assert embed(ada).shape == (len(ada), 512)
    assert networks()["identity"] == "my3dgen-identity-metrics"


def test_perceptual_distance_grows_with_damage(people):
    distance = load_perceptual()
    image = torch.nn.functional.interpolate(from_uint8(people["mei"][0].image)[None], size=256, mode="area")
    generator = torch.Generator().manual_seed(0)
    noisy = [image + s * torch.randn(image.shape, generator=generator) for s in (0.05, 0.15, 0.4)]
    blurred = torch.nn.functional.interpolate(
        torch.nn.functional.interpolate(image, size=32, mode="area"), size=256
    )
    values = [float(distance(image, x)) for x in (image, *noisy)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values == sorted(values)
    assert float(distance(image, blurred)) > values[1]


@pytest.mark.parametrize("border", [60, 61, 100])
def test_what_lies_outside_the_photo_has_no_part_in_the_figure(people, border):
    photo = people["ada"][0]
    valid = np.ones((512, 512), bool)
    valid[:, :border] = False
    face, render = replace(photo, valid=valid), np.roll(photo.image[::2, ::2], 2, 0)
    values = []
    for colour in (0, 255):
        other = render.copy()
        other[:, : border // 2] = colour
        values.append(perceptual_distance(other, face))
    assert values[0] == pytest.approx(values[1], rel=1e-5) and values[0] > 0


def test_masked_pixels_do_not_count():
    distance = load_perceptual()
    a = torch.zeros(1, 3, 256, 256)
    b = a.clone()
    b[..., :64] = 1
    mask = torch.ones(1, 1, 256, 256)
    mask[..., :64] = 0
    assert float(distance(a, b)) > 0.1
    assert float(distance(a, b, mask)) == 0


def test_an_asset_that_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MY3DGEN_ASSETS", str(tmp_path))
    with pytest.raises(my3dgen.My3DGenError, match="Get a complete checkout"):
        asset("heads.safetensors")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "heads.safetensors").write_text(pointer)
    with pytest.raises(my3dgen.My3DGenError, match="git lfs pull"):
        my3dgen.load_prior("heads", "cpu")


def test_an_asset_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    name = "identity_loss.safetensors"
    whole = asset(name).read_bytes()
    monkeypatch.setenv("MY3DGEN_ASSETS", str(tmp_path))
    for size in (100, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(my3dgen.My3DGenError, match="is damaged.*Get a complete checkout"):
            weights(name)
    (tmp_path / name).write_bytes(whole)
    assert {value.dtype for value in weights(name).values() if value.is_floating_point()} == {torch.float32}
