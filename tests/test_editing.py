"""Attributes, directions, editing, interpolation and new looks on `heads`: behaviour, on few and small fits."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from eg3d_tiny import tiny_prior
from scipy.stats import spearmanr

import my3dgen
from my3dgen.errors import My3DGenError
from my3dgen.faces.detect import detect, landmarks
from my3dgen.models.attributes import NAMES, load_attributes
from my3dgen.personal import directions as module
from my3dgen.personal.directions import DirectionOptions, directions, svm, whitening
from my3dgen.personal.hull import Hull, HullOptions
from my3dgen.personal.images import from_uint8, to_uint8
from my3dgen.pretraining import people
from my3dgen.tasks.edit import POLICIES, edit, edited, hull_shift
from my3dgen.tasks.interpolate import between, farthest, interpolate
from my3dgen.tasks.synthesize import diversity, synthesize, weights

EXAMPLES = Path(__file__).parent.parent / "examples"
SLIDER = (-2.0, -1.0, 0.0, 1.0, 2.0)


@pytest.fixture(scope="module")
def prior():
    return my3dgen.load_prior("heads")


@pytest.fixture(scope="module")
def faces():
    return my3dgen.prepare([str(EXAMPLES / "ada" / f"photo_0{i}.jpg") for i in range(4)])


@pytest.fixture(scope="module")
def me(prior, faces):
    anchors = my3dgen.project(prior, faces, steps=6)
    options = my3dgen.TuneOptions(steps=4, batch=1, lr=0.01)
    return prior.personalized(my3dgen.personalize(prior, faces, anchors, options=options))


def front_scores(prior, latents, name):
    images = prior.render(torch.stack(list(latents)), my3dgen.camera(0, 0))
    return load_attributes().score(images)[name].tolist(), to_uint8(images)


# ---- the scorer


def test_scores_do_not_depend_on_the_pictures_size_much(prior, me):
    image = me.render(me.adapter.anchors.ws[0], my3dgen.camera(0, 0))[None]
    small = torch.nn.functional.interpolate(image, size=(128, 128), mode="bilinear", antialias=True)
    scores = [load_attributes().score(x) for x in (image, small)]
    assert set(scores[0]) == set(NAMES) and scores[0]["smile"].shape == (1,)
    assert abs(float(scores[0]["smile"] - scores[1]["smile"])) < 0.1


@pytest.mark.parametrize("name", ["smile", "age"])
def test_renders_of_random_people_are_ranked_by_what_they_were_drawn_with(prior, name):
    if prior.config.z_dim != people.Z_DIM:
        pytest.skip("this prior was trained on people of an earlier layout: its z has no labels")
    z = np.stack([people.sample(np.random.default_rng(5_000_000 + i)) for i in range(120)])
    truth = np.array([getattr(people.decode(row), name) for row in z])
    order = truth.argsort()
    rows = np.concatenate([order[:6], order[-6:]])
    ws = prior.generator.mapping(torch.from_numpy(z[rows]), None)
    scores, _ = front_scores(prior, ws, name)
    assert np.mean(np.array(scores[6:])[:, None] > np.array(scores[:6])) > 0.9


# ---- finding directions


def test_the_svm_on_whitened_latents_finds_the_likely_change_not_the_plain_normal():
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 5, generator=rng).double()
    mixing = (
        torch.randn(5, 5, generator=rng).double() @ torch.diag(torch.tensor([5.0, 1, 1, 1, 0.3])).double()
    )
    w, wanted = z @ mixing.T, torch.tensor([0.6, 0.0, 0.8, 0.0, 0.0]).double()
    white = whitening(w, 1e-6)
    x = (w - white.mean) @ white.to_x.T
    assert torch.allclose(x.T.cov(), torch.eye(5).double(), atol=1e-8)
    n = svm(x, torch.sign(z @ wanted), 0.01)
    found = torch.linalg.solve(mixing, white.to_w @ n)  # what the step does to z
    assert float(found @ wanted) > 0.98 and float(found.norm()) == pytest.approx(1, abs=0.1)


def test_the_shipped_directions_belong_to_heads_and_cost_nothing(prior, monkeypatch):
    monkeypatch.setattr(module, "_known", {})
    found = directions(prior, progress=lambda report: pytest.fail("it rendered"))
    assert set(found) == set(module.NAMES)
    for name, others in module.KEPT.items():
        d = found[name]
        assert float(d.normal.norm()) == pytest.approx(1, abs=1e-4) and 0 < d.scale < prior.w_std
        assert float(d.probe @ d.step) == pytest.approx(1, abs=1e-3)
        for other in others:  # reading the other attribute off the latent, nothing has changed
            assert abs(float(found[other].probe @ d.step)) < 0.75


def test_another_prior_gets_its_own_once(monkeypatch, tmp_path):
    monkeypatch.setenv("MY3DGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_known", {})
    monkeypatch.setattr(module, "DirectionOptions", partial(DirectionOptions, samples=8, spread=200))
    other, renders = tiny_prior(), []
    first = directions(other, ["smile"], progress=lambda report: renders.append(report.step))
    assert renders == [1, 2] and list(tmp_path.glob("directions/*.safetensors"))
    monkeypatch.setattr(module, "_known", {})
    again = directions(other, ["smile"], progress=lambda report: pytest.fail("it rendered again"))
    assert torch.allclose(first["smile"].normal, again["smile"].normal)
    with pytest.raises(My3DGenError, match="stopped"):
        directions(other, options=DirectionOptions(samples=8, spread=200), progress=lambda report: False)


def test_a_search_holds_up_nobody_with_another_prior_and_waiting_can_be_stopped(prior, monkeypatch):
    other = replace(prior, sha256="2" * 64)
    monkeypatch.setattr(module, "_known", {})
    with module._alone(other, None):
        assert directions(prior, ["smile"]).keys() == {"smile"}  # while the other one's are searched
        reports = []
        with pytest.raises(my3dgen.My3DGenError, match="was stopped"):
            directions(other, ["smile"], progress=lambda report: reports.append(report) or False)
    assert [report.stage for report in reports] == ["directions"]


def test_directions_serve_where_they_cannot_be_kept(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MY3DGEN_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(module, "_known", {})
    monkeypatch.setattr(module, "DirectionOptions", partial(DirectionOptions, samples=8, spread=200))
    other = tiny_prior()
    first = directions(other, ["smile"])
    assert "MY3DGEN_CACHE" in caplog.text
    again = directions(other, ["smile"], progress=lambda report: pytest.fail("it rendered again"))
    assert again["smile"] is first["smile"]


# ---- editing


@pytest.mark.parametrize("personal", [False, True])
@pytest.mark.parametrize("name", ["smile", "age"])
def test_the_scorer_follows_the_slider(prior, me, personal, name):
    model = me if personal else prior
    ws = me.adapter.anchors.ws[0]
    scores, _ = front_scores(model, [edited(model, ws, name, s) for s in SLIDER], name)
    assert spearmanr(SLIDER, scores).statistic >= 0.95


@pytest.mark.parametrize("personal", [False, True])
def test_more_smile_lifts_the_corners_of_the_mouth(prior, me, personal):
    model = me if personal else prior
    moved = []
    for ws in me.adapter.anchors.ws[:2]:
        _, pictures = front_scores(model, [edited(model, ws, "smile", s) for s in (-2.0, 2.0)], "smile")
        moved.append(lift(pictures[1]) - lift(pictures[0]))
    assert min(moved) > 0 and np.mean(moved) > 0.015


def lift(picture: np.ndarray) -> float:
    """How far the mouth's corners lie above the middle of its lips, in inter-ocular distances."""
    big = np.kron(picture, np.ones((2, 2, 1), np.uint8))
    points = landmarks(big, detect(big)[0])
    middle = (points[51, 1] + points[57, 1]) / 2
    return float((middle - points[[48, 54], 1].mean()) / np.linalg.norm(points[36] - points[45]))


@pytest.mark.parametrize("policy", POLICIES)
def test_an_edit_changes_the_latent_by_its_strength_and_stays_in_the_hull_as_asked(prior, me, policy):
    ws, d = me.adapter.anchors.ws[1], directions(prior, ["smile"])["smile"]
    out = edited(me, ws, "smile", 1.5, policy)
    assert float((out - ws).mean(0) @ d.probe) == pytest.approx(1.5, abs=1e-3)
    assert torch.equal(edited(me, ws, "smile", 0.0, policy), ws)
    hull = Hull(me.adapter.anchors, HullOptions.for_prior(prior).beta)
    inside = hull_shift(hull, ws, d, 1.5, policy)
    if policy != "continue":  # the point it reaches is one of the hull's
        point = hull.at(hull.alpha_of(ws)) + inside
        assert torch.allclose(hull.at(hull.alpha_of(point)), point, atol=1e-2 * prior.w_std)
    only = edited(me, ws, "smile", 1.5, policy, beyond=False)
    assert torch.allclose(only - ws, inside, atol=1e-4)


def test_without_an_adapter_the_edit_is_a_straight_step(prior, me):
    ws, d = me.adapter.anchors.ws[0], directions(prior, ["age"])["age"]
    assert torch.allclose(edited(prior, ws, "age", -1.0), ws - d.step, atol=1e-5)


def test_editing_an_anchor_returns_the_slider(me, faces):
    result = edit(me, 0, "smile", 2.0, references=faces)
    assert set(result.images) == {"image", "reconstruction", "strip"}
    assert len(result.frames) == len(result.extra["strengths"]) == len(result.extra["scores"]) == 11
    assert np.array_equal(result.frames[-1], result.images["image"])
    assert np.array_equal(result.frames[5], result.images["reconstruction"])
    assert -1 <= result.figures["id_sim"] <= 1 and "perceptual" not in result.figures
    assert result.figures["score"] == pytest.approx(result.extra["scores"][-1], abs=1e-3)


def test_editing_a_photo_fits_it_first(prior, faces):
    result = edit(prior, faces[0], "age", -1.0, steps=2)
    assert result.figures["perceptual"] > 0 and result.extra["references"] == "photos"
    assert not np.array_equal(result.images["image"], result.images["reconstruction"])


def test_impossible_edits_say_what_to_do(prior, me, faces):
    for arguments, message in (
        ((me, 0, "hat"), "no attribute 'hat'"),
        ((me, 0, "smile", 9.0), "from -4.0 to 4.0"),
        ((me, 0, "smile", 1.0, "jump"), "project, stop, continue"),
        ((me, 99), "numbered 0 to 3"),
        ((prior, 0), "pass anchors="),
        ((prior, replace(faces[0], refused="too dark")), "too dark"),
    ):
        with pytest.raises(My3DGenError, match=message):
            edit(*arguments)


# ---- interpolation


def test_a_walk_starts_and_ends_at_the_anchors(prior, me, faces):
    anchors = me.adapter.anchors
    result = interpolate(me, 0, 1, steps=3, cameras=True, references=faces)
    ends = [to_uint8(me.render(anchors.ws[i], anchors.cameras[i])) for i in (0, 1)]
    for got, wanted in zip((result.frames[0], result.frames[-1]), ends, strict=True):
        assert np.abs(got.astype(int) - wanted).max() <= 1
    assert result.extra["t"] == [0.0, 0.5, 1.0] and len(result.extra["id_sims"]) == 3
    assert result.figures["id_sim"] == pytest.approx(np.mean(result.extra["id_sims"]), abs=1e-3)
    assert result.images["image"].shape == (256, 768, 3)
    assert torch.allclose(result.ws, (anchors.ws[0] + anchors.ws[1]) / 2)


def test_both_priors_walk_between_the_farthest_anchors(prior, me):
    anchors = me.adapter.anchors
    one = interpolate(me, steps=2, video_frames=4)
    two = interpolate(prior, steps=2, anchors=anchors)
    assert one.extra["ends"] == two.extra["ends"] == list(farthest(anchors))
    assert len(one.frames) == 4 and len(two.frames) == 2
    stopped = interpolate(me, steps=4, video_frames=4, progress=lambda report: report.step < 2)
    assert len(stopped.frames) == 2  # its strip, and no film of one picture
    far = torch.cdist(anchors.ws.flatten(1), anchors.ws.flatten(1))
    assert float(far[farthest(anchors)]) == float(far.max())


def test_cameras_between_two_stay_on_the_orbit():
    a, b = my3dgen.camera(-0.4, 0.1), my3dgen.camera(0.5, -0.1)
    assert torch.allclose(between(a, b, 0.0), a, atol=1e-5) and torch.allclose(
        between(a, b, 1.0), b, atol=1e-5
    )
    middle = between(a, b, 0.5)
    assert float(middle[[3, 7, 11]].norm()) == pytest.approx(2.7, abs=1e-3)
    pose = middle[:16].reshape(4, 4)[:3, :3]
    assert torch.allclose(pose @ pose.T, torch.eye(3), atol=1e-5)


def test_impossible_walks_say_what_to_do(prior, me):
    with pytest.raises(My3DGenError, match="both start and end"):
        interpolate(me, 0)
    with pytest.raises(My3DGenError, match="steps is 1"):
        interpolate(me, 0, 1, steps=1)
    with pytest.raises(My3DGenError, match="pass anchors="):
        interpolate(prior, 0, 1)


# ---- new looks


def test_the_same_seed_gives_the_same_looks_on_every_prior(prior, me, faces):
    anchors = me.adapter.anchors
    one, same, other = (synthesize(me, 2, seed=s, references=faces) for s in (1, 1, 2))
    plain = synthesize(prior, 2, seed=1, anchors=anchors)
    assert all(np.array_equal(a, b) for a, b in zip(one.frames, same.frames, strict=True))
    assert not np.array_equal(one.frames[0], other.frames[0])
    assert torch.equal(one.ws, plain.ws) and torch.equal(one.camera, plain.camera)
    assert one.figures["diversity"] > 0 and -1 <= one.figures["id_sim"] <= 1


@pytest.mark.parametrize("rule", ["dirichlet", "three"])
def test_weights_are_points_of_the_hull(rule):
    rows = weights(8, 50, np.random.default_rng(0), rule, 1.0)
    assert np.allclose(rows.sum(1), 1) and (rows >= 0).all()
    if rule == "three":
        assert ((rows > 0).sum(1) == 3).all()
    still = weights(8, 5, np.random.default_rng(0), rule, 0.0)
    assert np.allclose(still, 1 / 8)
    assert weights(2, 3, np.random.default_rng(0), rule, 1.0).shape == (3, 2)  # fewer than three anchors


def test_strength_pulls_towards_the_mean(me):
    mean = me.adapter.anchors.ws.mean(0)
    near, far = (synthesize(me, 1, seed=3, strength=s, yaw=0.0).ws for s in (0.3, 1.0))
    assert torch.allclose(near - mean, 0.3 * (far - mean), atol=1e-3)


def test_equal_pictures_have_no_diversity():
    picture = np.full((64, 64, 3), 90, np.uint8)
    assert diversity([picture, picture]) == (0.0, 0.0) and diversity([picture]) == (0.0, 0.0)
    assert diversity([picture, 255 - picture])[0] > 0
    assert float(from_uint8(picture).max()) < 0


def test_impossible_looks_say_what_to_do(prior, me):
    for arguments, message in (
        ({"count": 0}, "count is 0"),
        ({"count": "x"}, "count is x; it must be a number"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "x"}, "seed is x"),
        ({"rule": "four"}, "dirichlet, three"),
        ({"strength": 2.0}, "from 0 to 1"),
    ):
        with pytest.raises(My3DGenError, match=message):
            synthesize(me, **arguments)


def test_a_prior_of_nobody_shows_random_faces_and_says_so(prior, me):
    looks, again, person = synthesize(prior, 2), synthesize(prior, 2), synthesize(me, 2)
    assert looks.extra["anchors"] == "random faces" and person.extra["anchors"] == "the person's"
    assert torch.equal(looks.ws, again.ws) and np.array_equal(looks.frames[1], again.frames[1])
    assert not torch.allclose(looks.ws, person.ws, atol=0.1)
    walk = interpolate(prior, steps=2)
    assert walk.extra["anchors"] == "random faces" and not np.array_equal(*walk.frames)
