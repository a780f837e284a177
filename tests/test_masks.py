"""Masks, regions of the face, and how a render is blended into a photo."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import my3dgen
from my3dgen.faces.align import Placement
from my3dgen.faces.regions import REGIONS, painted_mask, region_mask
from my3dgen.tasks.blend import BlendOptions, composite, fill, ramp

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTO = EXAMPLES / "ada" / "test_01.jpg"


@pytest.fixture(scope="module")
def face():
    return my3dgen.prepare([str(PHOTO)])[0]


# ---- masks


@pytest.mark.parametrize("region", REGIONS)
def test_regions_lie_on_the_face(face, region):
    mask = region_mask(face, region)
    assert mask.shape == (512, 512) and 0.005 < mask.mean() < 0.3
    ys, xs = np.nonzero(mask)
    low, high = face.landmarks.min(0) - 25, face.landmarks.max(0) + 25
    assert xs.min() > low[0] and xs.max() < high[0] and ys.min() > low[1] and ys.max() < high[1]


def test_the_mouth_region_covers_the_mouth_and_no_eye(face):
    mask = region_mask(face, "mouth")
    x, y = face.landmarks.astype(int).T
    assert mask[y[48:], x[48:]].all() and not mask[y[36:48], x[36:48]].any()
    with pytest.raises(my3dgen.My3DGenError, match="no region"):
        region_mask(face, "elbow")


def test_a_mask_of_the_photos_size_lands_where_it_was_painted(face):
    with Image.open(PHOTO) as photo:
        width, height = photo.size
    nose = face.placement.to_photo(face.landmarks[30])
    painted = np.zeros((height, width), np.uint8)
    cv2.circle(painted, tuple(int(v) for v in nose), 30, 255, -1)
    for mask in (painted, painted > 0, Image.fromarray(painted), np.repeat(painted[..., None], 3, 2)):
        hidden = painted_mask(mask, face)
        ys, xs = np.nonzero(hidden)
        assert np.abs([xs.mean(), ys.mean()] - face.landmarks[30]).max() < 1.5
        expected = np.pi * (30 * face.placement.scale) ** 2
        assert abs(hidden.sum() / expected - 1) < 0.1


def test_a_mask_painted_before_the_photo_was_shrunk_still_fits(face):
    large = np.zeros((4000, 6144), np.uint8)
    large[2000:2100, 4000:4100] = 255  # twice the photo as read, which is 2000 x 3072
    placed = replace(face, placement=Placement(0.5, (-800.0, -300.0)), photo_size=(2000, 3072))
    ys, xs = np.nonzero(painted_mask(large, placed))
    assert (xs.min(), xs.max() + 1) == (200, 225) and (ys.min(), ys.max() + 1) == (200, 225)


def test_masks_that_cannot_be_used_say_why(face, tmp_path):
    with pytest.raises(my3dgen.My3DGenError, match="Nothing of the mask"):
        painted_mask(np.zeros((512, 512), bool), face)
    with pytest.raises(my3dgen.My3DGenError, match="must be"):
        painted_mask(np.ones((100, 700), bool), face)
    height, width = face.photo_size
    with pytest.raises(my3dgen.My3DGenError, match=f"it must be {width} x {height} like the photo"):
        painted_mask(np.ones((height // 2, width // 2), bool), face)  # its shape, but nobody's size
    with pytest.raises(my3dgen.My3DGenError, match="photo itself is not at hand"):
        painted_mask(np.ones((600, 600), bool), replace(face, placement=None))
    with pytest.raises(my3dgen.My3DGenError, match="bool or uint8"):
        painted_mask(np.ones((512, 512)), face)
    (tmp_path / "mask.png").write_text("nothing")
    with pytest.raises(my3dgen.My3DGenError, match="mask.png cannot be read"):
        painted_mask(tmp_path / "mask.png", face)
    Image.new("1", (13_000, 13_000)).save(tmp_path / "bomb.png")  # 22 kB
    with pytest.raises(my3dgen.My3DGenError, match="bomb.png cannot be read.*169 million pixels"):
        painted_mask(tmp_path / "bomb.png", face)
    Image.new("L", (512, 512), 255).save(tmp_path / "mask.eps")  # Pillow would start a program to draw it
    with pytest.raises(my3dgen.My3DGenError, match="mask.eps cannot be read"):
        painted_mask(tmp_path / "mask.eps", face)


def test_half_of_the_range_is_white_also_in_sixteen_bits(face, tmp_path):
    soft = np.zeros((512, 512), np.uint16)
    soft[:100], soft[100:200] = 3000, 40_000  # nearly black, and light grey
    Image.fromarray(soft).save(tmp_path / "soft.png")
    hidden = painted_mask(tmp_path / "soft.png", face)
    assert not hidden[:100].any() and hidden[100:200].all() and not hidden[200:].any()


def test_what_is_white_and_opaque_is_painted(face, tmp_path):
    rgba = np.zeros((512, 512, 4), np.uint8)
    rgba[:128] = 255
    rgba[128:256] = (255, 255, 255, 100)  # hardly there
    rgba[256:384] = (0, 200, 0, 255)
    expected = np.zeros((512, 512), bool)
    expected[:128] = expected[256:384] = True
    Image.fromarray(rgba).save(tmp_path / "colours.png")
    Image.fromarray(expected).save(tmp_path / "bits.png")
    for mask in (tmp_path / "colours.png", tmp_path / "bits.png", Image.fromarray(rgba), rgba, expected):
        assert (painted_mask(mask, face) == expected).all()


# ---- blending


def scene(seed=0, size=128):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (8, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def box(top, bottom, left, right, size=128):
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_beyond_the_band_nothing_is_touched():
    photo, render, mask = scene(), scene(1), box(0, 40, 50, 128)  # at the picture's corner
    image = composite(photo, render, mask)
    near = (
        cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=BlendOptions().band + 1) > 0
    )
    assert np.array_equal(image[~near], photo[~near])
    assert not np.array_equal(image[mask], photo[mask])
    assert np.array_equal(image, composite(photo, render, mask))


def test_another_light_leaves_no_seam():
    photo, mask = scene(), box(40, 90, 30, 100)
    tint = np.linspace(10, 30, 128)[None, :, None] * np.array([1.0, 0.6, 0.2])
    render = np.clip(photo + tint, 0, 255).astype(np.uint8)
    error = np.abs(composite(photo, render, mask).astype(int) - photo)
    assert np.abs(render.astype(int) - photo)[mask].mean() > 10
    assert error[mask].mean() < 2.5


def test_where_there_is_no_person_the_photo_stays():
    photo, render, mask = scene(), scene(1), box(40, 90, 30, 100)
    person = np.ones((128, 128), np.float32)
    person[:, :64] = 0
    image = composite(photo, render, mask, person)
    assert np.array_equal(image[:, :64], photo[:, :64])


def test_the_ramp_is_one_inside_and_ends_at_the_band():
    mask = box(50, 60, 50, 60)
    share = ramp(mask, 10)
    assert (share[mask] == 1).all() and share[55, 71] == 0 and 0 < share[55, 64] < 1


def test_filling_carries_known_values_everywhere():
    weight = box(0, 10, 0, 128).astype(np.float32)
    values = np.full((128, 128, 3), 7.0, np.float32)
    values[10:] = 99
    assert np.allclose(fill(values, weight), 7.0, atol=1e-3)
