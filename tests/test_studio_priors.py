"""What a prior asks of photos and of its users, over the stand-in models, without a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_backend
import pytest
import torch
from PIL import Image

import my3dgen
from my3dgen.errors import My3DGenError
from my3dgen.faces.cats import NOTE
from my3dgen.studio import compute, jobs, photo_set, priors, service, tab_personalize, task_photo, tasks
from my3dgen.studio.session import Model, Session

ANCHORS = fake_backend.Anchors(torch.randn(3, 2, 8), torch.zeros(3, 25), ("",) * 3)
MODEL = Model("m", "a model", "k", fake_backend.Adapter(ANCHORS), "heads", "", (), {})


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Session]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    for name in ("load_prior", "prepare", "project", "personalize", "compare", "with_mirrors", "TuneOptions"):
        monkeypatch.setattr(my3dgen, name, getattr(fake_backend, name))
    monkeypatch.setattr(fake_backend, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(compute, "_priors", {})
    monkeypatch.setattr(compute, "likeness", lambda *_: {})
    monkeypatch.setattr(compute, "compare_people", lambda faces: faces)
    monkeypatch.setattr(priors, "default", lambda: "heads")
    session = service.REGISTRY.get("of this test")
    session.agreed = True  # another test of that name deleted its session, and the box was ticked since
    yield session
    service.REGISTRY.delete("of this test")


@pytest.fixture
def dark(tmp_path: Path) -> list[str]:
    """Two photos in which the stand-in finds no person's face."""
    paths = [tmp_path / f"{name}.png" for name in ("tom", "minka")]
    for side, path in enumerate(paths, 300):
        Image.new("RGB", (side, side)).save(path)
    return list(map(str, paths))


def fit(session: Session, prior: str) -> list:
    return list(service.fit(session, service.fit_options(prior, 1, 3, 0, False)))


def test_photos_are_read_again_for_a_prior_of_another_kind(session: Session, dark: list[str]):
    assert service.add_photos(session, [dark[0], Path(dark[1]).read_bytes()], True) == 0
    assert not photo_set.stale(session)
    tab_personalize._chosen("cats", SimpleNamespace(session_hash="of this test"))
    assert tab_personalize._ready(session), "refused ones may be good for another prior"
    assert "2 photos were read for another kind" in tab_personalize._need(session)
    *reports, model = fit(session, "cats")
    assert "prepare" in {report.stage for report in reports}
    assert [face.kind for face in model.faces] == ["cat", "cat"]
    assert [photo.name for photo in session.photos][0] == "tom.png"
    assert not photo_set.stale(session)
    with pytest.raises(
        My3DGenError, match="None of the 2 photos can be used .tom.png: The photo is too dark"
    ):
        fit(session, "heads")
    assert session.model() is model


def test_photos_that_are_no_longer_there_are_asked_for_again(session: Session, dark: list[str]):
    service.add_photos(session, dark, True)
    Path(dark[1]).unlink()
    with pytest.raises(My3DGenError, match="'cats' and are no longer on the server; choose the prior first"):
        fit(session, "cats")
    assert [photo.kind for photo in session.photos] == ["person"] * 2


def test_stopped_while_photos_are_read_again_nothing_has_changed(
    session: Session, dark: list[str], monkeypatch: pytest.MonkeyPatch
):
    def prepare(photos, progress=None, kind="person"):
        jobs.stop(session, "fit")
        return fake_backend.prepare(photos, progress, kind)

    service.add_photos(session, dark, True)
    before = session.photos
    monkeypatch.setattr(my3dgen, "prepare", prepare)
    with pytest.raises(My3DGenError, match="Stopped while the photos were read again"):
        fit(session, "cats")
    assert session.photos is before


def test_once_a_prior_is_chosen_photos_are_read_for_it_at_once(session: Session, dark: list[str]):
    session.prior = "cats"
    assert service.add_photos(session, dark, True) == 2
    assert photo_set.notes(session)[0] == NOTE
    assert not photo_set.stale(session)
    session.prior = "heads"
    assert NOTE not in photo_set.notes(session)


def test_a_tasks_photo_is_read_for_the_models_prior(session: Session, dark: list[str]):
    cats = replace(MODEL, id="c", prior="cats")
    assert task_photo.face(session, dark[0], cats.prior).kind == "cat"
    with pytest.raises(My3DGenError, match="too dark"):
        task_photo.face(session, dark[0], MODEL.prior)
    session.models[cats.id], session.current = cats, cats.id
    assert task_photo.face(session, dark[0]).kind == "cat"
    outcome = list(tasks.invert(session, cats, dark[0], 2, 0))[-1]
    assert outcome.report["prior"] == "cats"


def test_choosing_a_prior_says_what_using_it_means(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(priors, "installed", lambda name: name == "heads")
    monkeypatch.delenv("MY3DGEN_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    ffhq, cats, heads = (tab_personalize._note(name) for name in ("ffhq", "cats", "heads"))
    assert "NVIDIA Source Code License, non-commercial" in ffhq
    assert "the first use downloads it (378 MB)" in ffhq
    assert "NVIDIA Source Code License, non-commercial" in cats
    assert "The central square of each photo" in cats
    assert "licence:" not in heads
    assert "download" not in heads
    monkeypatch.setenv("MY3DGEN_OFFLINE", "1")
    assert "may not download" in tab_personalize._note("ffhq")
    monkeypatch.setattr(priors, "installed", lambda name: True)
    assert "MB" not in tab_personalize._note("ffhq")


def test_a_report_names_the_networks_that_made_its_figures(
    session: Session, dark: list[str], monkeypatch: pytest.MonkeyPatch
):
    networks = fake_backend.NETWORKS | {"dists": "DISTS"}
    monkeypatch.setattr(fake_backend, "NETWORKS", networks)
    outcome = list(tasks.invert(session, replace(MODEL, prior="cats"), dark[0], 2, 0))[-1]
    assert outcome.report["networks"] == networks
