"""`bench --personalize`: what is measured is named measured, what is extrapolated is named so."""

import json

import pytest
import torch
from eg3d_tiny import SMALL

import my3dgen
from my3dgen.cli import main
from my3dgen.models.eg3d.generator import Generator
from my3dgen.personal.project import ProjectOptions
from my3dgen.personal.timing import time_person
from my3dgen.priors import Prior


@pytest.fixture
def prior(monkeypatch):
    """A small network, and fits of three and four steps."""
    torch.manual_seed(0)
    project = ProjectOptions(steps=3, coarse_steps=1, coarse_resolution=8)
    tune = my3dgen.TuneOptions(steps=4, batch=2)
    monkeypatch.setattr(ProjectOptions, "for_prior", staticmethod(lambda _: project))
    monkeypatch.setattr(my3dgen.TuneOptions, "for_prior", staticmethod(lambda _: tune))
    return Prior("small", "0" * 64, Generator(SMALL))


def test_a_cpu_takes_a_step_and_extrapolates(prior):
    reports = []
    found = time_person(prior, photos=2, progress=reports.append)
    assert [(r.stage, r.steps) for r in reports] == [("project", 1), ("personalize", 1)]
    assert found["steps"] == {"project": 1, "tune": 1} and found["full_steps"] == {"project": 3, "tune": 4}
    each, whole = found["seconds_a_step"], found["full_run_seconds_extrapolated"]
    assert whole["both"] == pytest.approx(3 * each["project"] + 4 * each["tune"], abs=1)
    assert found["device"] == "cpu" and found["peak_rss_mb"] > 50 and "peak_gpu_mb" not in found


def test_a_full_run_extrapolates_nothing(prior):
    found = time_person(prior, photos=1, steps=9)
    assert found["steps"] == found["full_steps"] and "full_run_seconds_extrapolated" not in found
    with pytest.raises(my3dgen.My3DGenError, match="at least one"):
        time_person(prior, photos=0)


def test_command(monkeypatch, prior, capsys):
    monkeypatch.setattr("my3dgen.cli.measuring._random_prior", lambda args: prior)
    argv = ["bench", "--prior", "ffhq", "--random-weights", "--personalize", "--photos", "1", "--steps", "2"]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["photos"] == 1 and found["steps"] == {"project": 2, "tune": 2}
    assert main([*argv[:-1], "0", "--json"]) == 2


def test_fewer_photos_at_once_are_the_same_step(prior):
    """What a CPU does to stay within its memory changes nothing but the order of sums."""
    faces = my3dgen.prepare([(torch.rand(200, 200, 3) * 255).byte().numpy() for _ in range(2)], kind="cat")
    anchors = my3dgen.project(prior, faces, options=ProjectOptions(steps=1))
    both = []
    for size in (1, 2):
        tune = my3dgen.TuneOptions(steps=2, batch=2, lr=1e-3, symmetry=True, micro_batch=size)
        both.append(my3dgen.personalize(prior, faces, anchors, options=tune).tensors)
    # where a gradient is nearly zero Adam makes a full step of its sign: compare what moved, on average
    for name, value in both[0].items():
        assert (value - both[1][name]).abs().mean() < 1e-4, name
