"""The folder of crops, cameras and latents: what is written is read back, and strange ones are refused."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import my3dgen
from my3dgen.personal import dataset

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def prior():
    return my3dgen.load_prior("heads")


@pytest.fixture(scope="module")
def faces():
    return my3dgen.prepare([str(EXAMPLES / "ada" / f"photo_0{i}.jpg") for i in range(2)])


@pytest.fixture(scope="module")
def anchors(prior, faces):
    """Latents near the mean face, and cameras a little off the prepared ones."""
    rng = torch.Generator().manual_seed(0)
    ws = prior.w_avg + 0.1 * torch.randn(len(faces), 1, prior.config.w_dim, generator=rng)
    turned = [my3dgen.camera(0.1, 0.02 * i) for i in range(len(faces))]
    return my3dgen.Anchors(ws.repeat(1, prior.num_ws, 1), torch.stack(turned), tuple(f.source for f in faces))


def test_a_folder_keeps_faces_and_latents(prior, faces, anchors, tmp_path):
    dataset.write_faces(tmp_path, faces)
    assert dataset.read_anchors(tmp_path, prior.num_ws, prior.config.w_dim) is None
    dataset.write_anchors(tmp_path, anchors)
    again = dataset.read_anchors(tmp_path, prior.num_ws, prior.config.w_dim)
    assert torch.allclose(again.ws, anchors.ws) and torch.allclose(again.cameras, anchors.cameras)
    assert not np.allclose(anchors.cameras[0], faces[0].camera), "a fit moves the camera"
    assert [
        np.allclose(f.camera, b.camera) for f, b in zip(faces, dataset.read_faces(tmp_path), strict=True)
    ] == [True, True], "whoever projects once more starts from the cameras as prepared"
    assert np.load(tmp_path / "image_0_latent.npy").shape == (1, prior.num_ws, prior.config.w_dim)
    back = dataset.read_faces(tmp_path)
    assert all(
        np.array_equal(a.image, b.image) and np.array_equal(a.valid, b.valid)
        for a, b in zip(faces, back, strict=True)
    )
    with pytest.raises(my3dgen.My3DGenError, match="delete it to project anew"):
        dataset.read_anchors(tmp_path, 14, 512)


def test_a_folder_that_is_prepared_again_keeps_nothing_of_the_photos_before(prior, faces, anchors, tmp_path):
    half = replace(faces[0], valid=np.arange(512)[None] + np.zeros((512, 1)) < 256)
    dataset.write_faces(tmp_path, [half, faces[1]])
    dataset.write_anchors(tmp_path, anchors, prior.sha256)
    dataset.write_faces(tmp_path, [replace(faces[0], valid=np.ones((512, 512), bool))])
    assert {path.name for path in tmp_path.iterdir()} == {"image_0.png", "dataset.json", dataset.EXTRAS}
    assert dataset.read_faces(tmp_path)[0].valid.all()
    assert dataset.read_anchors(tmp_path, prior.num_ws, prior.config.w_dim) is None


def test_a_folder_whose_preparation_was_interrupted_pairs_no_crop_with_an_earlier_camera(
    faces, tmp_path, monkeypatch
):
    dataset.write_faces(tmp_path, faces)
    monkeypatch.setattr(dataset, "write_picture", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dataset.write_faces(tmp_path, faces)
    with pytest.raises(my3dgen.My3DGenError, match="prepare"):
        dataset.read_faces(tmp_path)
    monkeypatch.undo()
    dataset.write_faces(tmp_path, faces)  # still known as ours
    assert len(dataset.read_faces(tmp_path)) == len(faces)


def test_pictures_that_are_not_ours_are_not_overwritten(faces, tmp_path):
    (tmp_path / "image_0.png").write_bytes(b"somebody's photo")
    with pytest.raises(my3dgen.My3DGenError, match=r"image_0\.png.*another folder"):
        dataset.write_faces(tmp_path, faces)
    assert (tmp_path / "image_0.png").read_bytes() == b"somebody's photo"


def test_a_foreign_data_set_that_was_projected_is_still_foreign(faces, anchors, tmp_path):
    dataset.write_faces(tmp_path, faces)
    (tmp_path / dataset.EXTRAS).unlink()  # as the earlier release writes them
    dataset.write_anchors(tmp_path, anchors, "1" * 64)
    with pytest.raises(my3dgen.My3DGenError, match="another folder"):
        dataset.write_faces(tmp_path, faces)
    assert len(dataset.read_faces(tmp_path)) == len(faces)


def test_latents_of_another_prior_are_not_taken_for_this_one_s(prior, faces, anchors, tmp_path):
    dataset.write_faces(tmp_path, faces)
    dataset.write_anchors(tmp_path, anchors, "1" * 64)
    sizes = (prior.num_ws, prior.config.w_dim)
    assert len(dataset.read_anchors(tmp_path, *sizes, "1" * 64)) == len(faces)
    with pytest.raises(my3dgen.My3DGenError, match="another prior"):
        dataset.read_anchors(tmp_path, *sizes, prior.sha256)
    (tmp_path / dataset.EXTRAS).unlink()  # the earlier release's folders do not say
    assert len(dataset.read_anchors(tmp_path, *sizes, prior.sha256)) == len(faces)


def test_what_is_known_of_a_photo_goes_by_its_name(faces, tmp_path):
    names = dataset.write_faces(tmp_path, faces)
    labels = json.loads((tmp_path / "dataset.json").read_text())["labels"]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels[1:]}))
    (back,) = dataset.read_faces(tmp_path)
    assert len(names) == 2 and back.source == Path(faces[1].source).name
    assert np.allclose(back.landmarks, faces[1].landmarks)


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_damaged_latent_is_named(prior, faces, anchors, tmp_path, content):
    dataset.write_faces(tmp_path, faces)
    dataset.write_anchors(tmp_path, anchors)
    path = tmp_path / "image_1_latent.npy"
    if content is None:
        np.save(path, np.full((1, prior.num_ws, prior.config.w_dim), np.nan))
    else:
        path.write_bytes(content)
    with pytest.raises(my3dgen.My3DGenError, match=r"image_1_latent\.npy.*delete it"):
        dataset.read_anchors(tmp_path, prior.num_ws, prior.config.w_dim)


@pytest.mark.parametrize(
    "row", [5, ["a.png", None], [3, [0.0] * 25], ["a.png", ["x"] * 25], ["a.png", [np.nan] * 25]]
)
def test_a_damaged_data_set_is_one_sentence(tmp_path, row):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [row]}))
    with pytest.raises(my3dgen.My3DGenError, match="25 numbers"):
        dataset.read_faces(tmp_path)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"labels": ' + "9" * 5000 + "}", "no JSON"])
def test_json_that_cannot_be_read_is_one_sentence(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(my3dgen.My3DGenError, match="not readable JSON"):
        dataset.read_faces(tmp_path)


@pytest.mark.parametrize("number", [10**30, 1e7])
def test_a_camera_that_no_face_is_seen_from_is_one_sentence(faces, tmp_path, number):
    dataset.write_faces(tmp_path, faces[:1])
    (tmp_path / dataset.EXTRAS).unlink()
    camera = [*faces[0].camera.tolist()[:16], number, *faces[0].camera.tolist()[17:]]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["image_0.png", camera]]}))
    with pytest.raises(my3dgen.My3DGenError, match="25 numbers"):
        dataset.read_faces(tmp_path)


def test_latents_that_are_there_stay_where_others_are_written(prior, faces, anchors, tmp_path):
    dataset.write_faces(tmp_path, faces)
    dataset.write_anchors(tmp_path, anchors)
    (tmp_path / "image_1_latent.npy").unlink()
    (tmp_path / dataset.EXTRAS).unlink()  # as the earlier release writes them
    sizes = (prior.num_ws, prior.config.w_dim, prior.sha256)
    first, second = dataset.read_latents(tmp_path, *sizes)
    assert torch.equal(first, anchors.ws[0]) and second is None
    assert dataset.read_anchors(tmp_path, *sizes) is None
    other = my3dgen.Anchors(anchors.ws[1:] + 1, anchors.cameras[:1])
    dataset.write_anchors(tmp_path, other, prior.sha256, rows=[1])
    back = dataset.read_anchors(tmp_path, *sizes)
    assert torch.equal(back.ws, torch.cat([anchors.ws[:1], anchors.ws[1:] + 1]))
    assert torch.equal(back.cameras, anchors.cameras[[0, 0]])
    with pytest.raises(my3dgen.My3DGenError, match="2 images but there are 1 latents"):
        dataset.write_anchors(tmp_path, other, prior.sha256)


def test_masks_of_the_version_before_are_read_and_replaced(faces, tmp_path):
    half = np.arange(512)[None] + np.zeros((512, 1)) < 256
    dataset.write_faces(tmp_path, [replace(faces[0], valid=half)])
    assert [path.suffix for path in tmp_path.glob("*_valid*")] == [".npy"], "no picture that is no face"
    (tmp_path / "image_0_valid.npy").unlink()
    Image.fromarray(half).save(tmp_path / "image_0_valid.png")
    assert np.array_equal(dataset.read_faces(tmp_path)[0].valid, half)
    dataset.write_faces(tmp_path, faces[:1])
    assert not list(tmp_path.glob("*.png.*")) and not (tmp_path / "image_0_valid.png").exists()


def test_a_foreign_data_set_is_not_written_over(faces, tmp_path):
    labels = json.dumps({"labels": [["img00000.png", faces[0].camera.tolist()]]})
    (tmp_path / "dataset.json").write_text(labels)
    with pytest.raises(my3dgen.My3DGenError, match="not from here"):
        dataset.write_faces(tmp_path, faces)
    assert (tmp_path / "dataset.json").read_text() == labels


def test_damaged_arrays_cameras_and_notes_are_one_sentence(prior, faces, anchors, tmp_path):
    half = replace(faces[0], valid=np.arange(512)[None] + np.zeros((512, 1)) < 256)
    dataset.write_faces(tmp_path, [half])
    dataset.write_anchors(tmp_path, my3dgen.Anchors(anchors.ws[:1], anchors.cameras[:1]))
    latent, mask = tmp_path / "image_0_latent.npy", tmp_path / "image_0_valid.npy"
    whole = latent.read_bytes(), mask.read_bytes()
    vast = io.BytesIO()
    np.lib.format.write_array_header_1_0(vast, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    zipped = io.BytesIO()
    np.savez(zipped, a=np.zeros(3))
    for content in (b"PK\x03\x04", zipped.getvalue(), b"\x93NUMPY\x01\x00\x04\x00{{{{", vast.getvalue()):
        latent.write_bytes(content)
        with pytest.raises(my3dgen.My3DGenError, match="delete it to project anew"):
            dataset.read_anchors(tmp_path, prior.num_ws, prior.config.w_dim)
        mask.write_bytes(content)
        with pytest.raises(my3dgen.My3DGenError, match="prepare the folder anew"):
            dataset.read_faces(tmp_path)
    mask.write_bytes(whole[1])
    notes = json.loads((tmp_path / dataset.EXTRAS).read_text())
    for change in ({"landmarks": [[1, 2], [3]]}, {"warnings": 3}, {"image": ["a"]}, {"camera": [1]}):
        (tmp_path / dataset.EXTRAS).write_text(json.dumps({"faces": [notes["faces"][0] | change]}))
        with pytest.raises(my3dgen.My3DGenError, match="damaged; prepare"):
            dataset.read_faces(tmp_path)
    (tmp_path / dataset.EXTRAS).unlink()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["image_0.png", [0.0] * 25]]}))
    with pytest.raises(my3dgen.My3DGenError, match="does not see a face"):
        dataset.read_faces(tmp_path)


def test_the_folder_of_the_earlier_release_is_read(faces, tmp_path):
    dataset.write_faces(tmp_path, faces)
    (tmp_path / dataset.EXTRAS).unlink()
    back = dataset.read_faces(tmp_path)
    assert np.abs(back[0].landmarks - faces[0].landmarks).mean() < 40  # the mean face's, roughly there
