"""Fits in slices give what one go gives, and the page's work fits into the calls of a borrowed GPU."""

import pickle
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from eg3d_tiny import SMALL

import my3dgen
from my3dgen.models.eg3d.generator import Generator
from my3dgen.personal import hull, slices
from my3dgen.personal.degradations import Identity
from my3dgen.personal.directions import DirectionOptions, directions
from my3dgen.personal.encode import Basis
from my3dgen.personal.project import ProjectOptions
from my3dgen.personal.slices import Saved, work_for
from my3dgen.priors import Prior
from my3dgen.studio import compute, gpu

PROJECT = ProjectOptions(steps=7, coarse_steps=2, coarse_resolution=8, camera_lr=0.003, prior_weight=0.01)
TUNE = my3dgen.TuneOptions(steps=6, batch=2, lr=0.02, decay=True, symmetry=True, symmetry_every=2)


class Clock:
    """Time that passes by one second whenever somebody looks at it."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(slices, "time", clock)
    return clock


@pytest.fixture(scope="module")
def prior():
    """Random weights, with noise that shows, so that projection moves its noise maps, too."""
    torch.manual_seed(0)
    generator = Generator(SMALL).eval()
    with torch.no_grad():
        for name, value in generator.named_parameters():
            if name.endswith("noise_strength"):
                value.fill_(0.1)
    return Prior("heads", "0" * 64, generator)


@pytest.fixture(scope="module")
def faces():
    """Three photos as faces; the fits do not mind what they show."""
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (200, 200, 3), dtype=np.uint8) for _ in range(3)]
    return my3dgen.prepare(photos, kind="cat")


@pytest.fixture(scope="module")
def adapter(prior, faces):
    anchors = my3dgen.project(prior, faces, options=PROJECT)
    return my3dgen.personalize(prior, faces, anchors, options=replace(TUNE, steps=2))


def in_slices(work, seconds: float):
    """Run work in slices, through a pickle after each; returns its result and the number of slices."""
    saved, count = None, 0
    while True:
        result, count = work_for(seconds, work, saved), count + 1
        if not isinstance(result, Saved):
            return result, count
        assert count < 200
        saved = pickle.loads(pickle.dumps(result))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("seconds", [0.0, 9.0])  # a step a slice, and a few
def test_projection_in_slices_is_projection(prior, faces, clock, seconds):
    def work():
        anchors = my3dgen.project(prior, faces, options=PROJECT)
        return {"ws": anchors.ws, "cameras": anchors.cameras}

    whole, (sliced, count) = work(), in_slices(work, seconds)
    assert count == 7 if not seconds else 1 < count < 7
    assert_same(whole, sliced)
    assert not torch.equal(whole["ws"][0], prior.w_avg.expand_as(whole["ws"][0]))


@pytest.mark.parametrize("plus", [False, True])
def test_projection_along_a_basis_in_slices(prior, faces, clock, monkeypatch, plus: bool):
    """Fewer ways than w has numbers: what moves has another shape than what comes out."""
    width, random = prior.config.w_dim, torch.Generator().manual_seed(3)
    ways = torch.randn(width, width - 5, generator=random)
    along = Basis(prior.w_avg, ways, torch.linalg.pinv(ways), torch.linspace(0.5, 2, width - 5))
    monkeypatch.setattr("my3dgen.personal.project.basis", lambda _: along)

    def work():
        anchors = my3dgen.project(prior, faces, options=replace(PROJECT, use_basis=True, plus=plus))
        return {"ws": anchors.ws, "cameras": anchors.cameras}

    whole, (sliced, count) = work(), in_slices(work, 0.0)
    assert count == 7
    assert_same(whole, sliced)
    moved = whole["ws"] - prior.w_avg
    layers = moved.shape[1] if plus else 1
    assert len(moved[0].unique(dim=0)) == layers
    # it stays in what the ways span
    assert torch.allclose(along.change(along.coordinates(whole["ws"])), moved, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.0, 9.0])
def test_personalization_in_slices_is_personalization(prior, faces, adapter, clock, seconds):
    def work():
        return my3dgen.personalize(prior, faces, adapter.anchors, rank=2, options=TUNE).tensors

    whole, (sliced, count) = work(), in_slices(work, seconds)
    assert 1 < count <= 6
    assert_same(whole, sliced)


def test_finding_directions_in_slices_renders_each_face_once(prior, clock):
    o = DirectionOptions(samples=8, spread=200, batch=2)
    looks = []

    def work():
        found = directions(prior, options=o, progress=lambda report: looks.append(report.step))
        return {name: each.step for name, each in found.items()}

    whole, (sliced, count) = work(), in_slices(work, 0.0)
    assert count == 4 and looks == [1, 2, 3, 4] * 2
    assert_same(whole, sliced)


def test_directions_that_somebody_else_found_meanwhile_do_not_confuse_the_fit_after_them(prior, faces, clock):
    o = DirectionOptions(samples=8, spread=200, batch=2)
    known = False

    def work():
        start = slices.clock()
        if not known:
            directions(prior, options=o)
        found = {"ws": my3dgen.project(prior, faces, options=PROJECT).ws}
        return found, slices.clock() - start

    (whole, _), saved = work(), work_for(0.0, work)
    assert not saved.fits[0].finished
    known = True
    assert_same(whole, work_for(1000.0, work, saved)[0])
    known = False
    while len(saved.fits) < 2 or saved.fits[1].step < PROJECT.steps - 1:
        saved = work_for(0.0, work, saved)
    known = True  # the search kept what it found
    sliced, seconds = work_for(1000.0, work, saved)
    assert_same(whole, sliced)
    assert seconds > saved.fits[0].seconds + saved.fits[1].seconds  # both count


def test_a_fit_that_nothing_is_left_of_takes_nothing_from_those_after_it(prior, faces, clock):
    """Directions were known to the process that did the first slice, and are not to the second one's."""
    steps = []

    def work():
        return {
            "ws": my3dgen.project(prior, faces, options=PROJECT, progress=lambda r: steps.append(r.step)).ws
        }

    def with_directions():
        directions(prior, options=DirectionOptions(samples=8, spread=200, batch=2))
        return work()

    whole, saved = work(), work_for(9.0, work)
    taken = saved.fits[0].step
    assert taken > 1
    steps.clear()
    assert_same(whole, work_for(1000.0, with_directions, saved))
    assert steps[0] == taken + 1


def test_full_fine_tuning_in_slices_is_a_third_side(prior, faces, adapter, clock):
    def work():
        return my3dgen.full_fine_tuning(prior, faces, adapter.anchors, options=TUNE)

    whole, (sliced, count) = work(), in_slices(work, 0.0)
    assert count == 6
    assert_same(whole.generator.state_dict(), sliced.generator.state_dict())
    crossed = pickle.loads(pickle.dumps(whole))  # as from the process that has the GPU
    me = prior.personalized(adapter)
    shown = my3dgen.compare("invert", prior, me, faces[0], steps=2, full=crossed)
    again = my3dgen.compare("invert", whole, None, faces[0], steps=2)
    assert again.personalized is None and again.full is None
    assert np.array_equal(shown.full.images["image"], again.pretrained.images["image"])
    assert not np.array_equal(shown.full.images["image"], shown.pretrained.images["image"])


def test_the_fit_of_every_other_task_in_slices(prior, faces, adapter, clock):
    me = prior.personalized(adapter)
    options = replace(hull.HullOptions.for_prior(prior), per_layer=True)
    for model in (prior, me):

        def work(model=model):
            found = hull.fit(model, faces[0], Identity(), options=options, steps=4)
            return {"ws": found.ws, "camera": found.camera, "loss": torch.tensor(found.loss)}

        whole, (sliced, count) = work(), in_slices(work, 0.0)
        assert count == 4
        assert_same(whole, sliced)


def test_an_inversion_with_tuning_in_both_models_in_slices(prior, faces, adapter, clock):
    me, reports = prior.personalized(adapter), []

    def work():
        return my3dgen.compare(
            "invert", prior, me, faces[0], progress=reports.append, steps=3, tuning_steps=2
        )

    whole = work()
    told, seconds = [(r.stage, r.step) for r in reports], whole.personalized.figures["seconds"]
    reports.clear()
    sliced, count = in_slices(work, 0.0)
    assert count == 10
    assert [(r.stage, r.step) for r in reports] == told  # each step once, as if nothing had come between
    for side in ("pretrained", "personalized"):
        one, other = getattr(whole, side), getattr(sliced, side)
        assert torch.equal(one.ws, other.ws) and torch.equal(one.camera, other.camera)
        assert all(np.array_equal(one.images[name], other.images[name]) for name in one.images)
    assert sliced.personalized.figures["seconds"] > 0.5 * seconds  # the earlier slices count


def test_a_stopped_fit_stays_stopped(prior, faces, adapter, clock):
    """The visitor stops the first fit; the second has not begun, and the pause comes before it."""
    seen = []

    def progress(report):
        seen.append((report.stage, report.step))
        return report.step < 2

    def work():
        one = my3dgen.project(prior, faces[:1], options=PROJECT, progress=progress)
        two = my3dgen.project(prior, faces[1:2], options=PROJECT, progress=progress)
        return {"one": one.ws, "two": two.ws}

    whole = work()
    told = list(seen)
    seen.clear()
    sliced, count = in_slices(work, 0.0)
    assert count == 4 and seen == told == [("project", 1), ("project", 2)] * 2
    assert_same(whole, sliced)


def test_what_was_saved_is_plain_and_fits_its_own_work_only(prior, faces, adapter):
    saved = work_for(0.0, lambda: my3dgen.project(prior, faces, options=PROJECT))
    assert isinstance(saved, Saved) and len(saved.fits) == 1 and not saved.fits[0].finished
    assert b"torch" not in pickle.dumps(saved)
    with pytest.raises(my3dgen.My3DGenError, match="other work"):
        work_for(0.0, lambda: my3dgen.project(prior, faces[:1], options=PROJECT), saved)
    again = work_for(None, lambda: my3dgen.project(prior, faces, options=PROJECT))  # without a budget: one go
    assert isinstance(again, my3dgen.Anchors)


def test_errors_go_through_as_they_are(prior, faces):
    with pytest.raises(my3dgen.My3DGenError, match="none of the"):
        work_for(5.0, lambda: my3dgen.project(prior, [replace(faces[0], refused="too dark")]))
    assert slices.clock() == pytest.approx(time.monotonic(), abs=5.0)  # and nothing is left behind


# ---- the page's work on a borrowed GPU


class Spaces:
    """Stands in for Hugging Face's package: what goes in and out is pickled, every call has so many seconds."""

    def __init__(self, clock: Clock):
        self.clock, self.calls = clock, []

    def GPU(self, function, duration):
        def lent(*args, **kwargs):
            start = self.clock.now
            args, kwargs = pickle.loads(pickle.dumps((args, kwargs)))
            try:
                for item in function(*args, **kwargs):
                    yield pickle.loads(pickle.dumps(item))
            except Exception as error:
                raise RuntimeError("ZeroGPU worker error") from error  # its text is lost
            finally:
                self.calls.append(self.clock.now - start)
            assert self.clock.now - start <= duration, "GPU task aborted"

        return lent


@pytest.fixture
def spaces(monkeypatch, clock, prior):
    """compute as on ZeroGPU, over the small prior, with short fits."""
    found = Spaces(clock)
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=found.GPU))
    monkeypatch.setitem(compute._priors, "heads", prior)
    monkeypatch.setattr(ProjectOptions, "for_prior", staticmethod(lambda _: PROJECT))
    monkeypatch.setattr(my3dgen.TuneOptions, "for_prior", staticmethod(lambda _: TUNE))
    monkeypatch.setattr(compute, "likeness", lambda *_: {"photos": 0.5})
    plain = gpu._slice

    def switch(on: bool) -> None:
        monkeypatch.setenv("SPACES_ZERO_GPU", "true" if on else "")
        monkeypatch.setattr(gpu, "_slice", gpu.on_gpu()(plain))

    found.switch = switch
    yield found
    compute._models.clear()


def run(generator):
    *reports, result = generator
    assert all(isinstance(report, my3dgen.Progress) for report in reports)
    return reports, result


def test_personalizing_on_a_borrowed_gpu(spaces, faces, monkeypatch):
    options = compute.FitOptions("heads", rank=2, symmetry=True)
    spaces.switch(False)
    _, whole = run(compute.fit(options, faces, None, "no such file"))
    assert spaces.calls == []
    spaces.switch(True)
    monkeypatch.setattr(gpu, "FIT_SECONDS", 12.0)
    reports, sliced = run(compute.fit(options, faces, None, "no such file"))
    assert len(spaces.calls) > 3 and max(spaces.calls) <= 60
    assert {report.stage for report in reports} == {"project", "personalize"}
    assert not sliced.stopped and sliced.identity == {"photos": 0.5}
    assert torch.equal(whole.anchors.ws, sliced.anchors.ws)
    assert_same(whole.adapter.tensors, sliced.adapter.tensors)
    assert sliced.seconds["project"] > 5 and sliced.seconds["personalize"] > 5  # over all calls


def test_a_task_on_a_borrowed_gpu(spaces, faces, adapter, monkeypatch):
    options = {"steps": 3, "tuning_steps": 2}
    arguments = ("invert", "heads", adapter, faces[0], [], options, None)
    spaces.switch(False)
    _, whole = run(compute.compare(*arguments))
    spaces.switch(True)
    monkeypatch.setattr(gpu, "FIT_SECONDS", 12.0)
    _, sliced = run(compute.compare(*arguments))
    assert len(spaces.calls) > 1
    assert np.array_equal(whole.personalized.images["image"], sliced.personalized.images["image"])


def test_stopping_between_two_calls(spaces, faces, monkeypatch, tmp_path: Path):
    spaces.switch(True)
    monkeypatch.setattr(gpu, "FIT_SECONDS", 0.0)
    stop, steps, result = tmp_path / "stop", [], None
    for item in compute.fit(compute.FitOptions("heads"), faces, None, str(stop)):
        if isinstance(item, my3dgen.Progress):
            steps.append((item.stage, item.step))
            if steps[-1] == ("personalize", 2):
                stop.touch()
        else:
            result = item
    assert result.stopped and result.adapter is not None
    assert ("project", 7) in steps and steps[-1][0] == "personalize" and steps[-1][1] <= 4


def test_mistakes_keep_their_words_on_a_borrowed_gpu(spaces, faces):
    spaces.switch(True)
    refused = [replace(face, refused="too dark") for face in faces]
    with pytest.raises(my3dgen.My3DGenError, match="too dark"):
        run(compute.fit(compute.FitOptions("heads"), refused, None, "no such file"))

    def plain(value):
        raise my3dgen.My3DGenError(f"{value} is wrong")

    sys.modules["spaces"].GPU = lambda function, duration: function
    with pytest.raises(my3dgen.My3DGenError, match="5 is wrong"):
        gpu.on_gpu(60)(plain)(5)
