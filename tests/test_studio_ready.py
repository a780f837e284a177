"""Results made beforehand: written, read back, and shown by the tabs of a session that has the example's model."""

from __future__ import annotations

from dataclasses import replace

import fake_backend
import numpy as np
import pytest
import torch
from studio_people import write_person

import my3dgen
from my3dgen import layout
from my3dgen.evaluation import ready as files
from my3dgen.studio import (
    compute,
    examples,
    ready,
    service,
    tab_compare,
    tab_edit,
    tab_interpolation,
    tab_inversion,
    tab_new_looks,
)
from my3dgen.studio.figures import SIDES
from my3dgen.studio.registry import Registry
from my3dgen.studio.session import Model

COLOUR = (210, 60, 60)


@pytest.fixture
def person(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """An example person whose ready results are those of the stand-in models."""
    monkeypatch.setattr(examples, "FOLDER", tmp_path / "examples")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(fake_backend, "STEP_SECONDS", 0.0)
    place = tmp_path / "examples" / "ada"
    comparisons, adapter = write_person(place, COLOUR, photos=2)
    assert max(path.stat().st_size for path in (place / layout.READY).glob("*.jpg")) <= files.MOST_BYTES
    return place, comparisons, adapter


def model(adapter, example: str | None = "ada") -> Model:
    return Model("m", "ada", "k", adapter, "heads", "", (), {}, example)


def session_with(chosen: Model):
    session = Registry().get("secret")
    session.models[chosen.id], session.current = chosen, chosen.id
    return session


def test_what_is_written_is_read_back(person):
    place, comparisons, _ = person
    found = files.read(place)
    assert set(found) == set(files.RECIPES)
    for task, comparison in comparisons.items():
        for side in files.SIDES:
            before, after = getattr(comparison, side), getattr(found[task], side)
            assert after.figures["id_sim"] == pytest.approx(before.figures["id_sim"], abs=0.11), task
            if files.RECIPES[task].frames:
                assert len(after.frames) == min(files.FRAMES, len(before.frames))
            else:
                small = files._shrunk(before.images["image"], 256).astype(int)
                assert np.abs(after.images["image"].astype(int) - small).mean() < 3, task
    assert found["upscale"].personalized.images["lanczos"].shape == (256, 256, 3)
    assert torch.equal(found["edit"].personalized.ws, comparisons["edit"].personalized.ws)


def test_every_tab_has_something_for_the_examples_own_model_only(person):
    place, _, adapter = person
    session = session_with(model(adapter))
    outcomes = ready.outcomes(session)
    assert set(outcomes) == set(files.RECIPES)
    for show, task in ((tab_inversion, "invert"), (tab_interpolation, "interpolate"), (tab_edit, "edit")):
        shown = show._show(session, session.model(), [outcomes[task]])
        assert "Made beforehand from Ada" in shown.note
        assert "0.7" in shown.figures or "0.6" in shown.figures
    assert "held-out photo 1" in outcomes["edit"].note
    assert session.editing.outcome is outcomes["edit"], "the slider moves it at once"
    assert not session.editing.stale(session, str(place / "photo_00.jpg"))
    sheet = tab_compare._show(session, session.model(), list(outcomes.values()))
    assert sheet.more[0].count("rowgroup") == 6
    looks = tab_new_looks._show(session, session.model(), [outcomes["synthesize"]])
    walk = tab_interpolation._show(session, session.model(), [outcomes["interpolate"]])
    for shown in (sheet, looks, walk):
        before, after = (shown.pair[side] for side in SIDES)
        assert before.shape == after.shape and not np.array_equal(before, after)
    assert ready.outcomes(session_with(model(adapter, None))) == {}
    assert ready.outcomes(Registry().get("empty")) == {}


def test_the_slider_compares_the_same_pictures_also_of_stopped_runs(person):
    """The personalized half was stopped early: what it did not come to is not compared with something else."""
    _, _, adapter = person
    session = session_with(model(adapter))
    frames = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(6)]
    for task, show in (("interpolate", tab_interpolation), ("synthesize", tab_new_looks)):
        whole = ready.outcomes(session)[task]
        sides = {
            side: replace(getattr(whole.comparison, side), frames=tuple(frames[:count]))
            for side, count in (("pretrained", 6), ("personalized", 3))
        }
        stopped = replace(whole, comparison=replace(whole.comparison, **sides))
        for tab in (show, tab_compare):
            shown = tab._show(session, session.model(), [stopped])
            assert np.array_equal(*(shown.pair[side] for side in SIDES)), (task, tab)


def test_results_of_another_adapter_and_missing_ones_are_not_shown(person):
    place, _, adapter = person
    session = session_with(model(adapter))
    content = (place / layout.ADAPTER).read_bytes()
    (place / layout.ADAPTER).write_bytes(content + b"x")
    assert ready.outcomes(session) == {}
    (place / layout.ADAPTER).write_bytes(content)
    (place / layout.READY / "ready.json").unlink()
    assert ready.outcomes(session) == {}


@pytest.fixture
def picked(person, monkeypatch: pytest.MonkeyPatch):
    """A session that may pick the example person."""
    for name in ("load_prior", "prepare", "load_adapter"):
        monkeypatch.setattr(my3dgen, name, getattr(fake_backend, name))
    monkeypatch.setattr(compute, "_priors", {})
    monkeypatch.setattr(service, "_faces_of_examples", {})
    return Registry().get("secret")


def test_whoever_leaves_while_an_example_is_read_leaves_it_whole_for_others(picked):
    service.load_example(picked, "ada", lambda report: False)
    other = Registry().get("another")
    service.load_example(other, "ada")
    assert len(picked.accepted()) == len(other.accepted()) == 2
    for session in (picked, other):
        assert session.model().report["id_sim"]["personalized"] == 0.7
        assert session.model().report["stopped"] is False, "as /personalize reports it"


def test_an_example_s_model_is_not_kept_for_photos_that_came_meanwhile(picked, monkeypatch):
    def slow(path):
        with picked.lock:  # another person is picked while Ada's adapter is read
            picked.photos = list(reversed(picked.photos))
        return fake_backend.load_adapter(path)

    monkeypatch.setattr(my3dgen, "load_adapter", slow)
    service.load_example(picked, "ada")
    assert not picked.models and picked.model() is None
    monkeypatch.setattr(my3dgen, "load_adapter", fake_backend.load_adapter)
    service.load_example(picked, "ada")
    first = picked.model()
    service.load_example(picked, "ada")
    assert picked.model() is first and len(picked.models) == 1
