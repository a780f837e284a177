"""Projection, personalization and inversion on `heads` with an example person: behaviour, not quality."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import my3dgen
from my3dgen.evaluation import reconstruction
from my3dgen.models.eg3d import lora
from my3dgen.personal import directions, hull
from my3dgen.personal.degradations import Downsampled
from my3dgen.personal.encode import Basis, Latents, basis, encode
from my3dgen.personal.images import to_uint8
from my3dgen.personal.objective import Objective, head_region, targets
from my3dgen.personal.pose import corrected
from my3dgen.personal.project import ProjectOptions, noise_correlation
from my3dgen.personal.tune import pivotal_tuning, symmetry_loss

EXAMPLES = Path(__file__).parent.parent / "examples"
FAST = my3dgen.TuneOptions(steps=6, batch=1, lr=0.01)


@pytest.fixture(scope="module")
def prior():
    return my3dgen.load_prior("heads")


@pytest.fixture(scope="module")
def faces():
    found = my3dgen.prepare([str(EXAMPLES / "ada" / f"photo_0{i}.jpg") for i in range(2)])
    assert [f.refused for f in found] == [None, None]
    return found


@pytest.fixture(scope="module")
def anchors(prior, faces):
    return my3dgen.project(prior, faces, steps=6)


def weights(prior):
    return {k: v.clone() for k, v in prior.generator.state_dict().items()}


def test_projection_lowers_the_loss(prior, faces):
    losses = []
    options = replace(ProjectOptions.for_prior(prior), coarse_steps=0, steps=10, lr_ramp_up=0.0)
    my3dgen.project(prior, faces[:1], progress=lambda r: losses.append(r.loss), options=options)
    assert len(losses) == 10 and losses[-1] < losses[0]


def test_moving_along_the_basis_comes_nearer_in_as_many_steps(prior, faces):
    def last_loss(options: ProjectOptions) -> float:
        losses = []
        my3dgen.project(prior, faces[:1], progress=lambda r: losses.append(r.loss), options=options)
        return losses[-1]

    along = replace(ProjectOptions.for_prior(prior), steps=14, coarse_steps=3)
    assert along.use_basis
    plain = replace(along, use_basis=False, lr=0.08, betas=(0.9, 0.999), coarse_steps=0, prior_weight=0.0)
    assert last_loss(along) < 0.9 * last_loss(plain)


def test_the_pull_keeps_latents_among_the_prior_s_faces(prior, faces):
    options = replace(ProjectOptions.for_prior(prior), steps=14, coarse_steps=3)

    def far(options: ProjectOptions) -> float:
        ws = my3dgen.project(prior, faces[:1], options=options).ws[:, :1]
        return float(Latents(ws, basis(prior)).unlikely().detach())

    assert far(options) < 0.7 * far(replace(options, prior_weight=0.0))


def test_latents_move_along_the_ways_they_are_given():
    mean = torch.tensor([1.0, 1.0])
    ways, spread = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([2.0, 0.5])
    start = torch.tensor([[[5.0, 7.0]]])  # coordinates 2 and 4 along the ways, 4 and 6 along the axes
    slanted = Basis(mean, ways, torch.linalg.inv(ways), spread)
    along, plain = Latents(start, slanted), Latents(start, Basis(mean, None, None, 2.0))
    assert [float(x.unlikely().detach()) for x in (along, plain)] == pytest.approx([1 + 64, 4 + 9])
    for latents in (along, plain):
        assert torch.equal(latents.w, start)
        with torch.no_grad():
            latents.moved[0, 0, 0] = 2.0
    assert along.w.tolist() == [[[9.0, 9.0]]]  # the first column was added twice
    assert plain.w.tolist() == [[[7.0, 7.0]]]
    assert [float(x.unlikely().detach()) for x in (along, plain)] == pytest.approx([4 + 64, 9 + 9])
    along.w.sum().backward()
    assert along.moved.grad.tolist() == [[[3.0, 1.0]]]
    # as many layers of the same latent are no less likely than one
    layers = Latents(start.expand(1, 5, 2), slanted)
    assert float(layers.unlikely().detach()) == pytest.approx(1 + 64)


def test_the_basis_knows_how_much_random_faces_vary(prior):
    found = basis(prior)
    w = directions.map_z(prior, directions.sample_z(prior, 2000, seed=77))
    y = found.coordinates(w)
    assert torch.allclose(y.std(0) / found.spread, torch.ones(y.shape[1]), atol=0.15)
    # and its coordinates lead back to the face
    assert float((found.mean + found.change(y) - w).square().sum(1).mean().sqrt()) < 0.1 * prior.w_std


def test_a_small_prior_without_an_encoder_is_fitted_along_the_axes_of_w(prior, faces):
    other = replace(prior, sha256="0" * 64)  # as if it came from another file
    assert basis(other) is None and encode(other, torch.zeros(1, 3, 256, 256)) is None
    small = ProjectOptions.for_prior(other)
    assert small.basis_of(other).ways is None
    moved = my3dgen.project(other, faces[:1], steps=1)  # and it can be
    assert bool(moved.ws.isfinite().all())


def test_projection_returns_one_latent_and_camera_for_each_face(prior, faces, anchors):
    assert anchors.ws.shape == (2, prior.num_ws, prior.config.w_dim)
    assert anchors.cameras.shape == (2, 25)
    assert (anchors.ws[:, :1] == anchors.ws).all()  # W, not W+
    assert len(anchors.sources) == 2
    # refined, but still on the orbit
    assert torch.allclose(anchors.cameras[:, [3, 7, 11]].norm(dim=1), torch.tensor(2.7), atol=1e-4)
    assert not torch.equal(anchors.cameras[0], torch.from_numpy(np.asarray(faces[0].camera)))


def test_projection_finds_where_a_photo_was_taken_from(prior, faces):
    """Landmarks may be several degrees off: a long face passes for a nod."""
    true, taken = my3dgen.camera(0.1, 0.06), my3dgen.camera(0.1, -0.02)
    w = prior.generator.mapping(directions.sample_z(prior, 1, seed=5), None)[0]
    picture = to_uint8(prior.render(w, true))
    picture = cv2.resize(picture, (512, 512), interpolation=cv2.INTER_CUBIC)
    known = replace(faces[0], image=picture, valid=np.ones((512, 512), bool), camera=taken.numpy())
    found = my3dgen.project(prior, [known]).cameras[0]

    def off(camera):  # radians between two places on the orbit
        return float(torch.arccos((camera[[3, 7, 11]] @ true[[3, 7, 11]] / 2.7**2).clamp(max=1)))

    assert off(taken) == pytest.approx(0.08, abs=1e-3)
    assert off(found) < 0.8 * off(taken)


def test_the_encoder_starts_closer_than_the_mean_face(prior, faces):
    t = targets(prior, faces)
    guess = encode(prior, t.high)
    assert guess is not None, "assets/encoder.safetensors does not belong to assets/heads.safetensors"
    objective = Objective(prior)

    def loss(w):
        out = prior.generator.synthesis(w[:, None].expand(-1, prior.num_ws, -1), t.cameras)
        return float(objective.high(out["image"], t).mean())

    with torch.no_grad():
        assert loss(guess) < loss(prior.w_avg.expand(2, -1))


def test_personalization_fits_the_photos_and_leaves_the_prior_alone(prior, faces, anchors):
    before, losses = weights(prior), []
    options = replace(FAST, steps=16)
    adapter = my3dgen.personalize(
        prior, faces[:1], first(anchors), options=options, progress=lambda r: losses.append(r.loss)
    )
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert all(torch.equal(v, before[k]) for k, v in prior.generator.state_dict().items())
    me = prior.personalized(adapter)
    a, b = (p.render(anchors.ws[0], anchors.cameras[0]) for p in (prior, me))
    assert a.shape == (3, 256, 256) and (a - b).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_adapter(prior, faces, anchors):
    one, two = (my3dgen.personalize(prior, faces, anchors, options=replace(FAST, steps=2)) for _ in range(2))
    other = my3dgen.personalize(prior, faces, anchors, options=replace(FAST, steps=2, seed=1))
    assert all(torch.equal(one.tensors[k], two.tensors[k]) for k in one.tensors)
    assert any(not torch.equal(one.tensors[k], other.tensors[k]) for k in one.tensors)


def test_stopping_keeps_what_was_learned(prior, faces, anchors):
    seen = []

    def stop(report):
        seen.append(report.step)
        return report.step < 2

    adapter = my3dgen.personalize(prior, faces, anchors, options=FAST, progress=stop)
    assert seen == [1, 2]
    assert any(v.abs().sum() > 0 for k, v in adapter.tensors.items() if k.endswith(".lora.B"))
    assert len(my3dgen.project(prior, faces, steps=6, progress=lambda r: False).ws) == 2


def test_resuming_goes_on_from_the_adapter(prior, faces, anchors):
    options = replace(FAST, steps=2)
    adapter = my3dgen.personalize(prior, faces, anchors, options=options)
    none = my3dgen.personalize(prior, faces, anchors, options=replace(options, steps=0), resume=adapter)
    assert all(torch.equal(none.tensors[k], adapter.tensors[k]) for k in adapter.tensors)
    with pytest.raises(my3dgen.My3DGenError, match="same options"):
        my3dgen.personalize(prior, faces, anchors, rank=2, options=options, resume=adapter)


def test_photos_and_anchors_must_match(prior, faces, anchors):
    with pytest.raises(my3dgen.My3DGenError, match="project these photos first"):
        my3dgen.personalize(prior, faces[:1], anchors, options=FAST)
    with pytest.raises(my3dgen.My3DGenError, match="none of the"):
        my3dgen.project(prior, [replace(faces[0], refused="too dark")])


def test_pixels_outside_the_photo_never_count(prior, faces):
    valid = np.ones_like(faces[0].valid)
    valid[:201] = valid[:, :7] = False  # not where a smaller picture's pixels end
    spoiled = np.where(valid[..., None], faces[0].image, 255 - faces[0].image)
    one, two = (replace(faces[0], valid=valid, image=i) for i in (faces[0].image, spoiled))
    a, b = (targets(prior, [face]) for face in (one, two))
    assert torch.equal(a.high, b.high) and torch.equal(a.low, b.low)
    assert float(a.weight_high[0, 0, :101].max()) == 0 and float(a.weight_high[0, 0, :, :4].max()) == 0
    assert float(a.weight_low[0, 0, :26].max()) == 0 and float(a.weight_low[0, 0, 30, 20:40].min()) > 0
    # and so a fit finds the same, in W and in the hull
    anchors = [my3dgen.project(prior, [face], steps=1) for face in (one, two)]
    assert torch.equal(anchors[0].ws, anchors[1].ws) and torch.equal(anchors[0].cameras, anchors[1].cameras)
    fits = [hull.fit(prior, face, Downsampled(20), steps=1) for face in (one, two)]
    assert torch.equal(fits[0].ws, fits[1].ws)


def test_the_head_region_covers_the_landmarks(faces):
    for face in faces:
        mask = head_region(face.landmarks)
        inside = face.landmarks[(face.landmarks >= 0).all(1) & (face.landmarks < 512).all(1)].astype(int)
        assert mask[inside[:, 1], inside[:, 0]].min() > 0.5
        assert mask.mean() < 0.9


def test_symmetry_compares_mirrored_views(prior, anchors):
    """With gradients; and exactly zero for a person whose mirrored views are equal by construction."""
    view = prior.generator
    tensors = lora.initial_tensors(view, lora.LoraOptions())
    personal = lora.view(view, tensors, lora.LoraOptions(), trainable=True)
    loss = symmetry_loss(personal, anchors.ws[:1], np.random.default_rng(0))
    loss.backward()
    assert 0 <= float(loss.detach()) <= 2
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in lora.own_tensors(personal).values())

    class Mirror(torch.nn.Module):
        def planes(self, ws):
            return ws

        def synthesis(self, ws, c, planes=None):
            yaw = c[:, 3] / 2.7  # a picture that depends on the side only by being mirrored
            ramp = torch.linspace(-1, 1, 64).expand(len(c), 3, 64, 64)
            return {"image": ramp * yaw.sign()[:, None, None, None]}

    assert float(symmetry_loss(Mirror(), anchors.ws[:1], np.random.default_rng(3))) == pytest.approx(
        0, abs=1e-5
    )


def test_camera_corrections_keep_the_orbit():
    cameras = torch.stack([my3dgen.camera(0.2, 0.1), my3dgen.camera(-0.3, 0.0)])
    zero = torch.zeros(2, 3)
    assert torch.allclose(corrected(cameras, zero, zero), cameras, atol=1e-6)
    moved = corrected(cameras, torch.full((2, 3), 0.1), torch.full((2, 3), -0.05))
    pose = moved[:, :16].reshape(-1, 4, 4)
    assert torch.allclose(pose[:, :3, 3].norm(dim=1), torch.tensor(2.7), atol=1e-5)
    assert torch.allclose(pose[:, :3, :3] @ pose[:, :3, :3].mT, torch.eye(3).expand(2, 3, 3), atol=1e-5)


def test_noise_correlation_is_small_for_noise_and_large_for_stripes():
    noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    stripes = torch.sign(torch.sin(torch.arange(64) / 4.0)).expand(1, 64, 64)
    assert float(noise_correlation(noise)) < 0.2 < float(noise_correlation(stripes))


def test_inversion_returns_pictures_and_figures(prior, faces):
    result = my3dgen.invert(prior, faces[0], steps=2, tuning_steps=1, references=faces)
    assert set(result.images) == {"image", "view_0", "view_1", "view_2", "view_3"}
    assert all(i.shape == (256, 256, 3) and i.dtype == np.uint8 for i in result.images.values())
    assert -1 <= result.figures["id_sim"] <= 1 and result.figures["perceptual"] > 0


def test_a_fully_tuned_prior_knows_where_it_came_from(prior, faces, anchors):
    """Its hash is the original's, so whatever is kept or trained under that hash must be the original's, too."""
    full = my3dgen.full_fine_tuning(prior, faces, anchors, options=replace(FAST, steps=1))
    assert full.base is prior and full.sha256 == prior.sha256
    # tasks look for a photo in the person's hull on it, as on the personalized prior
    assert hull.fit(full, faces[0], steps=0).alpha.shape == (len(anchors),)
    assert hull.fit(prior, faces[0], steps=0).alpha is None
    options = replace(FAST, steps=0)
    a, b = (my3dgen.personalize(p, faces, anchors, options=options) for p in (prior, full))
    assert all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)


def test_a_mirrored_copy_is_no_other_photo(prior, faces, anchors, monkeypatch):
    """In the earlier release's folders it is called image_0_mirror.png."""
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]]), dim=1)
    monkeypatch.setattr(reconstruction, "embed", lambda pictures: vectors[: len(pictures)])
    three = [replace(faces[0], source=s) for s in ("image_0.png", "image_0_mirror.png", "image_1.png")]
    known = my3dgen.Anchors(anchors.ws[[0, 0, 1]], anchors.cameras[[0, 0, 1]])
    assert reconstruction.to_other_photos(prior, prior, three, known)["photos"] < 0.1
    # names with dots in them, as messengers make
    dotted = [replace(faces[0], source=s) for s in ("a 10.12.22.jpeg", "b.jpg")]
    dotted.insert(1, dotted[0].mirrored())
    assert reconstruction.to_other_photos(prior, prior, dotted, known)["photos"] < 0.1
    # two files of one name are two photos, and with one photo and its copy that photo is all there is
    same_name = [replace(faces[0], source=s) for s in ("a/IMG_1.jpg", "b/IMG_1.jpg", "c/IMG_2.jpg")]
    assert reconstruction.to_other_photos(prior, prior, same_name, known)["photos"] == pytest.approx(
        2 / 3, abs=0.01
    )
    pair = my3dgen.Anchors(anchors.ws[[0, 0]], anchors.cameras[[0, 0]])
    assert reconstruction.to_other_photos(prior, prior, three[:2], pair)["photos"] == 1


def test_a_prior_is_copied_to_a_device_and_stays_where_it_is(prior, faces, anchors):
    adapter = my3dgen.personalize(prior, faces, anchors, options=replace(FAST, steps=1))
    me = prior.personalized(adapter)
    before = weights(prior)
    there = me.to("meta")  # a device like any other, without memory
    assert {there.device.type, there.base.device.type, there.w_avg.device.type} == {"meta"}
    assert {me.device.type, me.base.device.type, prior.w_avg.device.type} == {"cpu"}
    assert me.to("cpu") is me
    assert all(torch.equal(value, before[name]) for name, value in weights(prior).items())


def test_a_person_is_fitted_with_the_noise_that_is_drawn(prior, faces, anchors):
    """Personalizing gives noise some strength; `heads` itself has none, and both are fitted alike."""
    adapter = my3dgen.personalize(prior, faces, anchors, options=FAST)
    me = prior.personalized(adapter)
    assert any(bool(v.any()) for k, v in me.generator.named_parameters() if k.endswith("noise_strength"))
    options = replace(ProjectOptions.for_prior(me), steps=2, coarse_steps=0)
    first, second = (my3dgen.project(me, faces[:1], options=replace(options, seed=seed)) for seed in (0, 1))
    assert torch.equal(first.ws, second.ws), "nothing is drawn at random"
    free = replace(options, noise_maps=True)
    first, second = (my3dgen.project(me, faces[:1], options=replace(free, seed=seed)) for seed in (0, 1))
    assert not torch.equal(first.ws, second.ws)


def test_tuning_leaves_the_callers_random_numbers_alone(prior, faces, anchors):
    me = prior.personalized(my3dgen.personalize(prior, faces, anchors, options=replace(FAST, steps=1)))
    state = torch.get_rng_state()
    tuned = pivotal_tuning(me, faces[0], anchors.ws[0], anchors.cameras[0], 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(
        tuned.generator.backbone.synthesis.b64.const, me.generator.backbone.synthesis.b64.const
    )


def test_mirrored_copies_only_for_few_photos(faces):
    assert len(my3dgen.with_mirrors(faces)) == 4
    assert len(my3dgen.with_mirrors(faces * 3)) == 6


def first(anchors):
    return my3dgen.Anchors(anchors.ws[:1], anchors.cameras[:1], anchors.sources[:1])
