"""What cannot work is said before anything takes long, and in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import my3dgen
from my3dgen.assets import asset, fill
from my3dgen.evaluation import metrics
from my3dgen.faces import pose
from my3dgen.faces.regions import painted_mask
from my3dgen.models.perceptual import Trunk
from my3dgen.personal import directions
from my3dgen.tasks.mesh import mesh

PHOTO = Path(__file__).parent.parent / "examples" / "ada" / "test_00.jpg"


@pytest.fixture(scope="module")
def prior():
    return my3dgen.load_prior("heads")


@pytest.fixture(scope="module")
def face():
    return my3dgen.prepare([str(PHOTO)])[0]


def tasks(prior, face) -> dict:
    return {
        "invert": lambda **more: my3dgen.invert(prior, face, **more),
        "inpaint": lambda **more: my3dgen.inpaint(prior, face, region="mouth", **more),
        "upscale": lambda **more: my3dgen.upscale(prior, face, size=32, **more),
        "edit": lambda **more: my3dgen.edit(prior, face, **more),
        "interpolate": lambda **more: my3dgen.interpolate(prior, face, face, **more),
        "synthesize": lambda **more: my3dgen.synthesize(prior, **more),
    }


@pytest.mark.parametrize("task", ["invert", "inpaint", "upscale", "edit", "interpolate", "synthesize"])
def test_what_the_figures_need_is_looked_at_before_the_fit(prior, face, task, monkeypatch):
    def reported(progress):
        pytest.fail("it began")

    run = tasks(prior, face)[task]
    with pytest.raises(my3dgen.My3DGenError, match="References are faces.*got 'str'"):
        run(references=[str(PHOTO)], progress=reported)

    def broken():
        raise my3dgen.My3DGenError("the network is damaged")

    monkeypatch.setattr(metrics, "identity_network", broken)
    with pytest.raises(my3dgen.My3DGenError, match="the network is damaged"):
        run(progress=reported)


def test_several_latents_in_place_of_one_are_named(prior):
    many = prior.w_avg.expand(2, prior.num_ws, -1)
    for call in (
        lambda: my3dgen.render_view(prior, many),
        lambda: my3dgen.novel_views(prior, many),
        lambda: my3dgen.view_grid(prior, many, [0.0], [0.0]),
        lambda: my3dgen.depth_picture(prior, many, my3dgen.camera(0, 0)),
        lambda: my3dgen.edited(prior, many, "smile", 1.0),
        lambda: mesh(prior, many, 16),
    ):
        with pytest.raises(my3dgen.My3DGenError, match=r"ws has shape \(2, .* expects one latent"):
            call()


def test_a_large_picture_of_nothing_is_no_small_face(prior):
    ramp = np.tile(np.linspace(0, 255, 600).astype(np.uint8)[:, None], (600, 3)).reshape(600, 600, 3)
    with pytest.raises(my3dgen.My3DGenError, match="600 x 600 pixels.*at most 256 pixels wide"):
        my3dgen.upscale(prior, ramp)


def test_a_large_photo_is_not_called_too_small(prior):
    dark = (np.asarray(Image.open(PHOTO).convert("RGB")) * 0.02).astype(np.uint8)
    large = np.asarray(Image.fromarray(dark).resize((800, 800)))
    with pytest.raises(my3dgen.My3DGenError) as caught:
        my3dgen.upscale(prior, large)
    assert "dark" in str(caught.value) or "black" in str(caught.value)
    assert "too small" not in str(caught.value)


def test_a_mask_is_turned_as_its_file_says(face, tmp_path):
    """Half of it is white; a viewer shows the upper half, whichever way the pixels lie in the file."""
    upper = np.zeros((512, 512), np.uint8)
    upper[:256] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    lying = Image.fromarray(np.rot90(upper).copy())
    lying.save(tmp_path / "mask.png", exif=exif)
    hidden = painted_mask(tmp_path / "mask.png", face)
    assert hidden[:250].all() and not hidden[260:].any()


def test_mask_arrays_with_odd_channels_are_refused(face):
    for shape in ((3, 512, 512), (512, 512, 5)):
        with pytest.raises(my3dgen.My3DGenError, match="A mask is a bool or uint8 array"):
            painted_mask(np.zeros(shape, np.uint8), face)


def test_damaged_assets_are_named(prior, monkeypatch, tmp_path):
    whole = {name: asset(name).read_bytes() for name in ("directions.safetensors", "face68.npz")}
    monkeypatch.setenv("MY3DGEN_ASSETS", str(tmp_path))
    monkeypatch.setattr(directions, "_known", {})
    pose.model.cache_clear()
    for name, contents in whole.items():
        (tmp_path / name).write_bytes(contents[: len(contents) // 2])
    with pytest.raises(my3dgen.My3DGenError, match="directions.safetensors is damaged"):
        my3dgen.edited(prior, prior.w_avg.expand(prior.num_ws, -1), "smile", 1.0)
    with pytest.raises(my3dgen.My3DGenError, match="face68.npz is damaged"):
        pose.model()
    save_file({"unknown": torch.zeros(1)}, str(tmp_path / "perceptual.safetensors"))
    with pytest.raises(my3dgen.My3DGenError, match="perceptual.safetensors is of another version"):
        fill(Trunk(), "perceptual.safetensors")
    pose.model.cache_clear()


def test_a_prior_is_given_by_name_or_path():
    with pytest.raises(my3dgen.My3DGenError, match="got 'int'"):
        my3dgen.load_prior(7)


def test_things_of_the_wrong_kind_are_named(prior, face):
    camera, w = my3dgen.camera(0, 0), prior.w_avg.expand(prior.num_ws, -1)
    for call, says in (
        (lambda: my3dgen.load_prior(b"heads"), "got 'bytes'"),
        (lambda: prior.personalized("me.safetensors"), "load_adapter.*got 'me.safetensors'"),
        (lambda: prior.render(None, camera), "ws is None; it must be numbers of shape"),
        (lambda: prior.render(w * float("nan"), camera), "ws holds numbers that are not finite"),
        (lambda: my3dgen.personalize(prior, [face], None), "`project` gives; got None"),
        (lambda: my3dgen.project(prior, [face], steps="x"), "steps is x; it must be a number from 0"),
        (lambda: my3dgen.project(prior, [face], steps=-1), "steps is -1"),
        (lambda: my3dgen.inpaint(prior, face, region="mouth", steps=-1), "steps is -1"),
        (lambda: my3dgen.edit(prior, face, strength="x"), "strength is x"),
        (lambda: my3dgen.interpolate(prior, steps=2.5), "steps is 2.5; it must be a whole number"),
        (lambda: my3dgen.upscale(prior, face, size=8), "size is 8"),
        (lambda: my3dgen.export(prior, w, ("glb",), resolution=32.5), "resolution is 32.5"),
        (lambda: my3dgen.export(prior, w, ("mp4",), frames="x"), "frames is x"),
        (lambda: my3dgen.inpaint(prior, face, mask=np.ones((0, 0), np.uint8)), "A mask is a bool or uint8"),
    ):
        with pytest.raises(my3dgen.My3DGenError, match=says):
            call()
