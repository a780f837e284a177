"""What fits choose by the device they run on; a GPU is stood in for, as CI has none."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import my3dgen
from my3dgen.models.eg3d.config import FFHQ, HEADS
from my3dgen.personal.device import photos_at_once
from my3dgen.personal.hull import HullOptions


def prior_on(device: str, config=FFHQ) -> SimpleNamespace:
    return SimpleNamespace(config=config, device=torch.device(device), sha256="0" * 64)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with so much free memory, and with bfloat16 or without."""

    def set_up(gib: float, bfloat16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(gib * 2**30), int(80 * 2**30)))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)

    return set_up


@pytest.mark.parametrize(("gib", "photos"), [(1, 1), (15, 4), (70, 20)])
def test_a_gpu_renders_as_many_photos_at_once_as_it_holds(gpu, gib: float, photos: int):
    gpu(gib)
    assert photos_at_once(torch.device("cuda"), 512) == photos
    assert my3dgen.ProjectOptions.for_prior(prior_on("cuda")).micro_batch == photos
    assert my3dgen.TuneOptions.for_prior(prior_on("cuda")).micro_batch == photos


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
