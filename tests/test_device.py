"""What fits choose by the device they run on; a GPU is stood in for, as CI has none."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from eg3d_tiny import SMALL

import my3dgen
from my3dgen.models.eg3d.config import FFHQ, HEADS
from my3dgen.models.eg3d.generator import Generator
from my3dgen.personal import hull, tune
from my3dgen.personal.degradations import Identity
from my3dgen.personal.device import photos_at_once
from my3dgen.personal.hull import HullOptions
from my3dgen.priors import Prior


def prior_on(device: str, config=FFHQ) -> SimpleNamespace:
    return SimpleNamespace(
        config=config,
        device=torch.device(device),
        sha256="0" * 64,
        small=Prior.small.fget(SimpleNamespace(config=config)),
    )


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with so much memory that nobody took, so much that PyTorch keeps unused, and with bfloat16 or without."""

    def set_up(gib: float, kept: float = 0.0, bfloat16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(gib * 2**30), int(80 * 2**30)))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: int((kept + 2) * 2**30))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: int(2 * 2**30))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0) if bfloat16 else (7, 5))

    return set_up


@pytest.mark.parametrize(("gib", "photos"), [(1, 1), (18, 4), (70, 16)])
def test_a_gpu_renders_as_many_photos_at_once_as_it_holds(gpu, gib: float, photos: int):
    gpu(gib)
    assert photos_at_once(torch.device("cuda"), 512) == photos
    assert my3dgen.ProjectOptions.for_prior(prior_on("cuda")).micro_batch == photos
    assert my3dgen.TuneOptions.for_prior(prior_on("cuda")).micro_batch == photos
    gpu(gib / 2, kept=gib / 2)  # as after an earlier fit
    assert photos_at_once(torch.device("cuda"), 512) == photos


def test_half_precision_is_for_large_priors_on_gpus_that_have_it(gpu):
    makers = (my3dgen.ProjectOptions.for_prior, my3dgen.TuneOptions.for_prior, HullOptions.for_prior)
    gpu(70)
    assert [make(prior_on("cuda")).half for make in makers] == [True] * 3
    assert not my3dgen.TuneOptions.for_prior(prior_on("cuda", HEADS)).half
    assert [make(prior_on("cpu")).half for make in makers] == [False] * 3
    gpu(15, bfloat16=False)
    assert [make(prior_on("cuda")).half for make in makers] == [False] * 3


def test_a_cpu_renders_one_photo_at_a_time():
    for config in (FFHQ, HEADS, replace(FFHQ, neural_resolution=64)):
        assert my3dgen.ProjectOptions.for_prior(prior_on("cpu", config)).micro_batch == 1


def test_fits_render_as_precisely_as_their_options_say(monkeypatch):
    torch.manual_seed(0)
    prior = Prior("small", "0" * 64, Generator(SMALL))
    photo = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    faces = my3dgen.prepare([photo], kind="cat")
    seen = []  # whether each rendering was in half precision
    forward = type(prior.generator.superresolution).forward

    def watched(self, features, ws, half=False):
        seen.append(half)
        return forward(self, features, ws, half)

    monkeypatch.setattr(type(prior.generator.superresolution), "forward", watched)
    monkeypatch.setattr(tune, "_half", lambda _: half)
    for half in (True, False):
        project = my3dgen.ProjectOptions(steps=1, half=half)
        anchors = my3dgen.project(prior, faces, options=project)
        options = my3dgen.TuneOptions(steps=1, half=half, symmetry=True, symmetry_every=1)
        my3dgen.personalize(prior, faces, anchors, options=options)
        assert seen == [half, half, False, False]  # the pair of mirrored views is always exact
        seen.clear()
        hull.fit(prior, faces[0], Identity(), options=HullOptions(free=project, half=half), steps=1)
        tune.pivotal_tuning(prior, faces[0], anchors.ws[0], anchors.cameras[0], steps=1)
        assert seen == [half, half]
        seen.clear()
