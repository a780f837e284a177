"""Photos of cats: a crop and a frontal camera, to be refined in projection."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from eg3d_tiny import SMALL
from PIL import Image

import my3dgen
from my3dgen.cli import main
from my3dgen.faces.cats import NOTE
from my3dgen.models.eg3d.config import CATS, FFHQ
from my3dgen.models.eg3d.generator import Generator
from my3dgen.personal.directions import directions
from my3dgen.personal.objective import head_region
from my3dgen.personal.project import ProjectOptions
from my3dgen.priors import Prior, catalogue
from my3dgen.priors.releases import kind_of
from my3dgen.studio import compute


def photo(width: int, height: int) -> np.ndarray:
    """A gradient with a white square in the very middle."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 200, width)[None]
    x, y = width // 2, height // 2
    pixels[y - 20 : y + 20, x - 20 : x + 20] = 255
    return pixels


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (512, 512)])
def test_the_central_square_seen_from_the_front(width, height):
    (face,) = my3dgen.prepare([photo(width, height)], kind="cat")
    assert face.usable and face.warnings == ()
    assert face.image.shape == (512, 512, 3) and face.valid.all()
    assert (face.image[250:262, 250:262] > 250).all()
    assert np.allclose(face.camera, my3dgen.camera(0.0, 0.0).numpy())
    middle = face.placement.to_crop(np.array([width / 2, height / 2]))
    assert np.abs(middle - 256).max() < 1.0
    assert head_region(face.landmarks)[256, 256] > 0.9  # what fits need of the landmarks


def test_what_cannot_be_used(tmp_path):
    small, good = photo(200, 100), photo(300, 300)
    (tmp_path / "note.jpg").write_text("no picture")
    refused, unreadable, face = my3dgen.prepare([small, tmp_path / "note.jpg", good], kind="cat")
    assert "100 pixels" in refused.refused and unreadable.refused and face.usable
    with pytest.raises(my3dgen.My3DGenError, match="'person' or 'cat'"):
        my3dgen.prepare([good], kind="dog")
    assert my3dgen.prepare([Image.fromarray(good)])[0].refused  # as a person: nobody is there


# ---- choosing the prior prepares cats


@pytest.fixture
def cats(monkeypatch):
    """A small network of random weights that goes by the name of the real prior, and short fits."""
    torch.manual_seed(0)
    prior = Prior("cats", "c" * 64, Generator(SMALL))
    monkeypatch.setattr("my3dgen.priors.load_prior", lambda *_, **__: prior)
    options = ProjectOptions(steps=2, coarse_steps=1, coarse_resolution=8)
    monkeypatch.setattr(ProjectOptions, "for_prior", staticmethod(lambda _: options))
    return prior


@pytest.fixture
def files(tmp_path):
    paths = []
    for i in range(2):
        paths.append(str(tmp_path / f"cat_{i}.png"))
        Image.fromarray(np.roll(photo(300, 240), 5 * i, axis=0)).save(paths[-1])
    return paths


def test_which_priors_know_cats(monkeypatch, tmp_path):
    names = (
        "cats",
        "afhqcats512-128.pkl",
        str(tmp_path / "afhqcats512-128.safetensors"),
        "folder/cats.safetensors",
    )
    assert [kind_of(name) for name in names] == ["cat"] * 4
    people = ("heads", "ffhq", "ffhqrebalanced512-128.pkl", "concatenated.pkl", "")
    assert [kind_of(name) for name in people] == ["person"] * 5
    monkeypatch.setenv("MY3DGEN_PRIOR", "cats")
    assert kind_of(None) == "cat" and kind_of("heads") == "person"
    assert compute.kind_of("cats") == ("cat", NOTE) and compute.kind_of("heads") == ("person", "")
    assert set(catalogue.RELEASES) == {"ffhq", "cats"}


def test_a_loaded_prior_knows_cats_by_where_they_are_looked_at():
    for pivot, kind in ((CATS.camera_pivot, "cat"), (FFHQ.camera_pivot, "person")):
        assert Prior("mine", "0" * 64, Generator(replace(SMALL, camera_pivot=pivot))).kind == kind


def test_the_commands_take_cats(cats, files, tmp_path, capsys):
    """prepare, personalize and a task: with `--prior cats` nobody's face is looked for, and one line says so."""
    folder, out = tmp_path / "cat", tmp_path / "cat.safetensors"
    assert main(["prepare", *files, "--out", str(folder), "--prior", "cats", "--json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)["accepted"]) == 2 and said.err.count(NOTE) == 1
    argv = [str(folder), "--out", str(out), "--prior", "cats", "--steps", "1", "--json"]
    assert main(["personalize", *argv]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["prior"] == "cats" and NOTE in said.err
    rest = ["--steps", "1", "--json"]
    argv = ["--adapter", str(out), "--prior", "cats", "--out", str(tmp_path / "out"), *rest]
    for task in (["invert", files[0]], ["inpaint", files[0]], ["upscale", files[0], "--size", "32"]):
        assert main([*task, *argv]) == 0, task
        assert "image" in json.loads(capsys.readouterr().out)["personalized"]["files"]


def test_without_the_prior_a_cat_is_nobody(files, tmp_path, capsys):
    assert main(["prepare", files[0], "--out", str(tmp_path / "no"), "--json"]) == 2
    assert NOTE not in capsys.readouterr().err
    assert main(["prepare", files[0], "--out", str(tmp_path / "yes"), "--kind", "cat", "--json"]) == 0


def test_a_small_photo_of_a_cat(cats):
    small = photo(60, 48)
    result = my3dgen.upscale(cats, small, steps=1)
    assert result.figures["side"] == 48 and result.extra["note"] == NOTE


def test_what_is_said_of_people_only(cats, files):
    faces = compute.prepare(files * 3, kind="cat")
    assert {face.kind for face in faces} == {"cat"} and faces[0].mirrored().kind == "cat"
    assert compute.compare_people(faces) == faces
    from my3dgen.faces import set_warnings

    assert set_warnings(faces) == []  # all seen from the front: nobody knows better
    with pytest.raises(my3dgen.My3DGenError, match="knows no people"):
        directions(cats, ["smile"])
