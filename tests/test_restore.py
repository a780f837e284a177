"""Fits in the hull, inpainting and super-resolution: behaviour, not quality."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import my3dgen
from my3dgen.evaluation.metrics import perceptual_distance
from my3dgen.faces.align import Placement
from my3dgen.faces.regions import region_mask
from my3dgen.personal import hull as fitting
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.degradations import Downsampled, Identity, Masked
from my3dgen.personal.encode import encode
from my3dgen.personal.hull import Hull, HullOptions, fit
from my3dgen.personal.images import from_uint8, to_uint8
from my3dgen.tasks.blend import BlendOptions, composite, ramp
from my3dgen.tasks.inpaint import inpaint
from my3dgen.tasks.upscale import NO_FACE, agreeing, upscale

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTO = EXAMPLES / "ada" / "test_01.jpg"


@pytest.fixture(scope="module")
def prior():
    return my3dgen.load_prior("heads")


@pytest.fixture(scope="module")
def face():
    found = my3dgen.prepare([str(PHOTO)])[0]
    assert found.usable
    return found


@pytest.fixture(scope="module")
def me(prior):
    """A person after a step of training, their anchors straight from the encoder."""
    faces = my3dgen.prepare([str(EXAMPLES / "ada" / f"photo_0{i}.jpg") for i in range(3)])
    w = encode(prior, torch.stack([from_uint8(f.image) for f in faces]))
    cameras = torch.from_numpy(np.stack([f.camera for f in faces]))
    anchors = Anchors(w[:, None].repeat(1, prior.num_ws, 1), cameras)
    options = my3dgen.TuneOptions(steps=1, batch=1)
    return prior.personalized(my3dgen.personalize(prior, faces, anchors, options=options))


def grid(every: int, thick: int = 6) -> np.ndarray:
    """Many thin strokes, which leave most of the face to be seen."""
    lines = np.arange(512) % every < thick
    return lines[:, None] | lines[None, :]


def test_thin_strokes_do_not_hide_a_face_from_coarse_renders(me, face):
    """One hidden pixel hides a whole pixel of a small render, and its neighbours."""
    sides = {}
    for every in (400, 100, 44):
        compared = fitting._Comparison(me, face, Masked(grid(every)), 0.1)
        sides[every] = compared.coarsest(32, 64)
        assert (compared._head_left(32) < 0.5 * compared._head_left(512)) == (sides[every] != 32)
    assert sides == {400: 32, 100: 64, 44: 0}
    assert fit(me, face, Masked(grid(44)), steps=2).loss > 0


def random_anchors(count, layers=3, width=7, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return Anchors(torch.randn(count, layers, width, generator=rng), torch.zeros(count, 25))


# ---- degradations


def noise(size, seed=0):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_fit_never_sees_hidden_pixels():
    hidden = np.zeros((64, 64), bool)
    hidden[13:40, 21:50] = True
    masked = Masked(hidden)
    photo = noise(64)
    other = torch.where(torch.from_numpy(hidden), noise(64, 1), photo)
    for size in (16, 24, 32, 64):
        assert torch.equal(masked.observed(photo, size), masked.observed(other, size))
    render = noise(64, 2).requires_grad_(True)
    masked(render).sum().backward()
    assert float(render.grad[..., torch.from_numpy(hidden)].abs().max()) == 0
    assert float(render.grad[..., 0, 0].min()) == 1


def test_partly_hidden_pixels_count_nowhere_at_lower_resolutions():
    hidden = np.zeros((64, 64), bool)
    hidden[:, 33] = True  # the middle of a pixel of 16
    weight = Masked(hidden).weight(16)[0, 0, 0]
    assert weight[8] == 0 and weight[[0, 15]].tolist() == [1, 1]


def test_what_is_hidden_is_completed_from_the_guess():
    hidden = np.zeros((32, 32), bool)
    hidden[:8] = True
    whole = Masked(hidden).completed(noise(32), noise(32, 1))
    assert torch.equal(whole[..., :8, :], noise(32, 1)[..., :8, :])
    assert torch.equal(whole[..., 8:, :], noise(32)[..., 8:, :])


def test_downsampling_means_over_areas_and_leaves_coarser_renders_alone():
    small = Downsampled(8)
    picture = noise(32)
    assert torch.allclose(small(picture)[0, 0, 0, 0], picture[0, 0, :4, :4].mean(), atol=1e-6)
    assert small(noise(6)).shape[-1] == 6
    for size in (4, 8, 32):
        assert small.observed(picture, size).shape == small(noise(size)).shape
    assert torch.equal(Identity().observed(picture, 32), picture)


@pytest.mark.parametrize("make", [lambda: Masked(np.zeros((4, 5), bool)), lambda: Masked(np.zeros((4, 4)))])
def test_a_mask_must_be_square_and_of_booleans(make):
    with pytest.raises(my3dgen.My3DGenError, match="square array of booleans"):
        make()


def test_a_crop_is_reduced_to_a_whole_number_of_pixels():
    with pytest.raises(my3dgen.My3DGenError, match="4 or more"):
        Downsampled(2)


# ---- the hull


def test_weights_sum_to_one_and_stay_in_the_dilated_hull():
    hull = Hull(random_anchors(6), beta=0.03)
    raw = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    raw = raw / raw.abs().sum(-1, keepdim=True) * 2
    alpha = hull.weights(raw)
    assert torch.allclose(alpha.sum(-1), torch.ones(50), atol=1e-5)
    inside = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0, 0.0])
    assert torch.allclose(hull.weights(hull.raw(inside)), inside, atol=1e-4)


def test_the_nearest_point_of_the_hull():
    hull = Hull(random_anchors(5), beta=0.03)
    alpha = torch.tensor([0.4, 0.3, 0.2, 0.12, -0.02])
    assert torch.allclose(hull.alpha_of(hull.at(alpha)), alpha, atol=1e-4)
    far = hull.alpha_of(10 * hull.anchors[0] - 9 * hull.anchors[1])
    assert abs(float(far.sum()) - 1) < 1e-4 and float(far.min()) >= -0.0301
    assert int(far.argmax()) == 0


def test_each_layer_may_have_weights_of_its_own():
    hull = Hull(random_anchors(4))
    rows = torch.eye(4)[:3]
    assert torch.equal(hull.at(rows), torch.stack([hull.anchors[i, i] for i in range(3)]))


def test_no_anchors_and_foreign_anchors_are_refused(prior, face):
    with pytest.raises(my3dgen.My3DGenError, match="no anchors"):
        Hull(Anchors(torch.zeros(0, 2, 3), torch.zeros(0, 25)))
    with pytest.raises(my3dgen.My3DGenError, match="project with this prior"):
        fit(prior, face, anchors=random_anchors(2), steps=0)


def test_one_anchor_leaves_only_the_camera(me, face):
    anchors = Anchors(me.adapter.anchors.ws[:1], me.adapter.anchors.cameras[:1])
    found = fit(me, face, anchors=anchors, steps=2)
    assert found.alpha.tolist() == [1.0]
    assert torch.allclose(found.ws, anchors.ws[0], atol=1e-6)
    assert not torch.equal(found.camera, torch.from_numpy(face.camera))


def test_a_fit_finds_a_known_point_of_the_hull(me, face):
    hull = Hull(me.adapter.anchors)
    wanted = torch.tensor([0.15, 0.7, 0.15])
    camera = torch.from_numpy(face.camera)
    picture = to_uint8(me.render(hull.at(wanted), camera))
    known = replace(face, image=cv2.resize(picture, (512, 512), interpolation=cv2.INTER_CUBIC))
    options = replace(HullOptions.for_prior(me), steps=12, coarse_steps=12, camera_lr=0.0, aim_lr=0.0)
    losses = []
    found = fit(me, known, options=options, progress=lambda r: losses.append(r.loss))
    assert min(losses[-3:]) < losses[0]
    assert float((found.alpha - wanted).abs().max()) < 0.15
    assert torch.allclose(found.camera, camera, atol=1e-6)


def test_weights_of_each_layer_move_when_asked_to(me, face):
    options = replace(HullOptions.for_prior(me), per_layer=True, coarse_steps=2, steps=2)
    found = fit(me, face, options=options)
    assert found.alpha.shape == (me.num_ws, 3)
    assert torch.allclose(found.alpha.sum(-1), torch.ones(me.num_ws), atol=1e-4)


def test_stopping_keeps_what_was_found(prior, face):
    seen = []
    found = fit(prior, face, steps=5, progress=lambda r: seen.append(r) or False)
    assert len(seen) == 1 and seen[0].preview.shape == (512, 512, 3)
    assert found.alpha is None and (found.ws == found.ws[:1]).all()


# ---- inpainting


@pytest.mark.parametrize("who", ["prior", "me"])
def test_inpainting_paints_the_mask_and_nothing_else(who, face, request):
    model = request.getfixturevalue(who)
    result = inpaint(model, face, region="mouth", steps=2)
    mask = region_mask(face, "mouth")
    images = result.images
    assert list(images)[0] == "image" and images["image"].shape == (512, 512, 3)
    assert set(images) == {"image", "render", "masked", "view_0", "view_1", "view_2", "view_3"}
    assert (images["masked"][mask] == 128).all()
    far = ramp(mask, BlendOptions().band) == 0
    assert np.array_equal(images["image"][far], face.image[far])
    assert np.abs(images["image"][mask].astype(int) - face.image[mask]).mean() > 0.5
    assert {"id_sim", "perceptual", "seconds"} <= set(result.figures)
    assert ("alpha" in result.extra) == (who == "me")
    assert 0 < result.figures["perceptual"] < perceptual_distance(images["masked"], face)


def test_what_lies_under_the_mask_does_not_matter(prior, face):
    mask = region_mask(face, "centre")
    spoiled = face.image.copy()
    spoiled[mask] = 255 - spoiled[mask]
    one, two = (fit(prior, replace(face, image=i), Masked(mask), steps=1) for i in (face.image, spoiled))
    assert torch.equal(one.ws, two.ws) and torch.equal(one.camera, two.camera)
    render = np.random.default_rng(1).integers(60, 190, (512, 512, 3)).astype(np.uint8)
    assert np.array_equal(composite(face.image, render, mask), composite(spoiled, render, mask))


def test_a_mask_over_the_whole_head_is_refused(prior, face):
    with pytest.raises(my3dgen.My3DGenError, match="paint less"):
        inpaint(prior, face, np.ones((512, 512), bool))


# ---- super-resolution


def test_a_demonstration_is_compared_with_the_truth(me, face):
    result = upscale(me, face, size=32, steps=2)
    assert list(result.images)[0] == "image"
    assert {"input", "lanczos", "render", "view_3"} <= set(result.images)
    assert all(result.images[k].shape == (512, 512, 3) for k in ("image", "input", "lanczos"))
    assert len(np.unique(result.images["input"][::16, ::16].reshape(-1, 3), axis=0)) <= 32 * 32
    assert np.array_equal(result.images["input"][0, 0], result.images["input"][15, 15])
    names = {"id_sim", "perceptual", "seconds", "lanczos_id_sim", "lanczos_perceptual", "side"}
    assert names <= set(result.figures) and result.figures["side"] == 32


def test_the_result_shrinks_to_the_small_photo(face):
    tiny = Downsampled(32)(from_uint8(face.image)[None])
    render = cv2.GaussianBlur(face.image, (0, 0), 4)
    render = np.clip(render.astype(int) + [25, -10, 5], 0, 255).astype(np.uint8)

    def miss(picture):
        return float((Downsampled(32)(picture) - tiny).abs().mean())

    better = torch.from_numpy(agreeing(render, tiny)).permute(2, 0, 1)[None] / 127.5 - 1
    assert miss(better) < 0.4 * miss(from_uint8(render)[None])


def test_a_photo_that_is_small_itself(prior):
    with Image.open(PHOTO) as photo:
        photo.thumbnail((96, 96))
        small = photo.convert("RGB")
    result = upscale(prior, small, steps=1)
    assert 40 < result.figures["side"] < 160
    assert "note" not in result.extra and "lanczos_id_sim" not in result.figures


def test_a_square_without_a_findable_face_is_taken_as_the_crop(prior):
    flat = np.full((20, 20, 3), 128, np.uint8)
    result = upscale(prior, flat, steps=1)
    assert result.extra["note"] == NO_FACE and result.figures["side"] == 20
    with pytest.raises(my3dgen.My3DGenError, match="must be square"):
        upscale(prior, np.full((20, 30, 3), 128, np.uint8))


def test_photos_that_are_not_small_are_reduced_first(prior, face):
    large = replace(face, placement=Placement(1.0, (0.0, 0.0)))
    result = upscale(prior, large, steps=0)
    assert result.figures["side"] == 32 and "512 pixels a side" in result.extra["note"]
    again = upscale(prior, face, size=32, steps=0)
    assert np.array_equal(result.images["image"], again.images["image"])
    assert result.figures["lanczos_perceptual"] == again.figures["lanczos_perceptual"], (
        "the original is the truth"
    )
    with pytest.raises(my3dgen.My3DGenError, match="from 16 to 256"):
        upscale(prior, face, size=8)


def test_a_start_from_the_encoders_guess_is_not_stuck_at_the_hulls_edge(prior, face, monkeypatch):
    """Raw weights at the edge lie far below the others, and the penalty on their sum would push them all."""
    random = torch.Generator().manual_seed(0)
    ws = prior.w_avg + prior.w_std * torch.randn(30, 1, prior.config.w_dim, generator=random)
    anchors = Anchors(ws.expand(-1, prior.num_ws, -1), torch.from_numpy(face.camera).expand(30, -1))
    far = prior.w_avg + 5 * prior.w_std * torch.randn(1, prior.config.w_dim, generator=random)
    monkeypatch.setattr(fitting, "encode", lambda *_: far)
    losses = iter(range(1000, 0, -1))  # the last one tried is the guess
    monkeypatch.setattr(fitting._Comparison, "loss", lambda *_: torch.tensor(float(next(losses))))
    search = fitting._Search(prior, face, Identity(), anchors, HullOptions.for_prior(prior))
    assert not torch.allclose(search.shared, search.shared.mean(), atol=1e-3), "it is not the mean"
    assert abs(float(search.shared.detach().sum()) - 1) < 0.2


def test_a_photo_is_not_quietly_left_out(prior, face):
    with pytest.raises(my3dgen.My3DGenError, match="interpolate .* start=.* not 'Face'"):
        my3dgen.compare("interpolate", prior, None, face)
    with pytest.raises(my3dgen.My3DGenError, match="synthesize .* no photo"):
        my3dgen.compare("synthesize", prior, None, "me.jpg")
