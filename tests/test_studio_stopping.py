"""Stopping a task at any moment, and one task of several that fails: over the stand-in models, without a page."""

from __future__ import annotations

import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_backend
import gradio as gr
import pytest
import torch
from PIL import Image

import my3dgen
from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import compute, jobs, panels, service, tab_compare, task_panel, tasks
from my3dgen.studio.page import Job, Page
from my3dgen.studio.registry import Registry
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import TaskPanel
from my3dgen.studio.tasks import Missing, Outcome

ANCHORS = fake_backend.Anchors(torch.randn(3, 2, 8), torch.zeros(3, 25), ("",) * 3)
MODEL = Model("m", "a model", "k", fake_backend.Adapter(ANCHORS), "heads", "", (), {})


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    for name in ("load_prior", "prepare", "with_mirrors", "full_fine_tuning", "compare"):
        monkeypatch.setattr(my3dgen, name, getattr(fake_backend, name))
    monkeypatch.setattr(compute, "_priors", {})
    return Registry().get("secret")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    Image.new("RGB", (300, 300), (200, 60, 60)).save(tmp_path / "me.png")
    return str(tmp_path / "me.png")


def stopped_at(
    session: Session,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
    job: str = "invert",
    function: str = "compare",
) -> None:
    """Stop a job as soon as this function of my3dgen's reports this stage, however slow the machine is."""
    genuine = getattr(fake_backend, function)

    def stopped(*values, progress, **options):
        def watch(report: Progress):
            if report.stage.startswith(stage):
                jobs.stop(session, job)
            return progress(report)

        return genuine(*values, progress=watch, **options)

    monkeypatch.setattr(my3dgen, function, stopped)


def test_stopped_in_the_first_half_there_is_no_result(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    stopped_at(session, "pretrained", monkeypatch)
    events = list(tasks.invert(session, MODEL, photo, 10, 0))
    stages = {event.stage for event in events if isinstance(event, Progress)}
    assert stages == {"pretrained: fit"}, "the personalized half never began"
    assert isinstance(events[-1], Missing)
    assert events[-1].stopped
    assert not session.results
    assert "personalized model had not begun" in task_panel._done(panels.Running(), [], events[-1:])


def test_stopped_in_the_second_half_both_are_kept(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    stopped_at(session, "personalized", monkeypatch)
    events = list(tasks.invert(session, MODEL, photo, 10, 0))
    assert isinstance(events[-1], Outcome)
    assert events[-1].stopped


def test_stopped_while_the_photo_is_read_no_model_begins(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    def prepare(photos, progress=None, kind="person"):
        jobs.stop(session, "invert")
        return fake_backend.prepare(photos, progress, kind)

    monkeypatch.setattr(my3dgen, "prepare", prepare)
    monkeypatch.setattr(my3dgen, "compare", lambda *_, **__: pytest.fail("it was stopped"))
    (only,) = tasks.invert(session, MODEL, photo, 0, 0)
    assert isinstance(only, Missing)
    assert only.stopped
    assert not session.running


def test_stopped_while_it_waits_for_a_free_place_it_ends_as_it_begins(session: Session, photo: str):
    jobs.wait(session, "invert")
    jobs.stop(session, "invert")
    (only,) = tasks.invert(session, MODEL, photo, 0, 0)
    assert only.stopped
    assert isinstance(list(tasks.invert(session, MODEL, photo, 0, 0))[-1], Outcome), "said once, heard once"
    jobs.stop(session, "edit")  # pressed when it had just ended
    jobs.wait(session, "edit")
    events = list(tasks.edit(session, MODEL, photo, "smile", 0.0, "project", 0))
    assert not events[-1].stopped


def test_what_waits_or_runs_is_not_started_again(session: Session):
    job = Job("invert", "one fit runs at a time", None, None, None, lambda session: not session.deleted)

    def buttons() -> tuple[bool, bool]:
        return job.startable(session)["interactive"], job.stoppable(session)["interactive"]

    assert buttons() == (True, False)
    panel, start, stop = job.queued(session)
    assert "Waiting for a free place: one fit" in panel
    assert (start["interactive"], stop["interactive"]) == buttons() == (False, True)
    assert "ends as soon as its turn comes" in job.stopped(session)[0]
    with jobs.turn(session, "invert"):
        with jobs.running(session, "invert"), jobs.running(session, "edit"):
            assert buttons() == (False, True) and "m3" not in str(job.stopped(session)[0])
        assert buttons() == (False, True), "pictures and files are still being made"
    assert buttons() == (True, False)
    assert "turn comes" not in str(job.stopped(session)[0]) and not session.stop_early, "it had just ended"
    job.queued(session)
    assert [each["interactive"] for each in job.failed(session)] == [True, False], "it never had its turn"
    job.queued(session)
    with pytest.raises(ValueError), jobs.turn(session, "invert"):
        assert buttons() == (False, True)
        raise ValueError
    assert not session.waits() and buttons() == (True, False), "it failed before it began"
    session.deleted = True
    assert buttons() == (False, False)


def test_a_job_works_with_the_model_that_was_chosen_when_it_was_asked_for(session: Session):
    ada, ben = (SimpleNamespace(id=name) for name in ("ada", "ben"))
    session.models.update(ada=ada, ben=ben)
    session.current = "ada"
    jobs.wait(session, "invert")
    session.current = "ben"
    with jobs.turn(session, "invert"):
        assert service.model_asked(session, "invert") is ada
        del session.models["ada"]
        with pytest.raises(My3DGenError, match="is gone"):
            service.model_asked(session, "invert")
    assert service.model_asked(session, "invert") is ben


def test_what_compare_was_asked_for_leaves_no_task_waiting(session: Session, photo: str):
    for _ in range(2):  # the second time everything is kept
        list(tab_compare._run(session, MODEL, photo, ["invert", "edit"]))
    with pytest.raises(My3DGenError):
        list(tab_compare._run(session, MODEL, None, ["invert", "edit"]))
    assert not session.queued and not session.running


def test_a_stop_ends_its_own_job_only(session: Session):
    with jobs.running(session, "fit") as fit, jobs.running(session, "export") as export:
        jobs.stop(session, "export")
        assert Path(export).exists() and not Path(fit).exists()
        jobs.stop(session, "fit")
        assert Path(fit).exists()


def test_a_stop_that_came_too_late_stops_nothing_later(session: Session, photo: str):
    assert isinstance(list(tasks.invert(session, MODEL, photo, 0, 0))[-1], Outcome)
    jobs.stop(session, "invert")  # its answer was there already
    assert isinstance(list(tasks.invert(session, MODEL, photo, 0, 0))[-1], Outcome)
    assert "invert" not in session.stop_early
    jobs.stop(session, "synthesize")  # pressed in its own tab
    events = list(tab_compare._run(session, MODEL, photo, ["synthesize"]))
    assert isinstance(events[-1], Outcome) and not events[-1].stopped


def test_compare_and_a_tab_s_own_job_of_the_same_task_do_not_meet(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    jobs.wait(session, "edit")  # pressed in its own tab, and waiting while Compare runs
    jobs.stop(session, "edit")
    events = list(tab_compare._run(session, MODEL, photo, ["edit"]))
    assert isinstance(events[-1], Outcome) and not events[-1].stopped
    assert session.waits("edit") and "edit" in session.stop_early, "it waits, and ends as it begins"
    session.results.clear()
    stopped_at(session, "pretrained", monkeypatch, "compare")
    events = []
    for event in tab_compare._run(session, MODEL, photo, ["edit"]):
        assert "edit" not in session.running
        events.append(event)
    assert isinstance(events[-1], Missing) and events[-1].stopped
    assert session.waits("edit"), "Compare's stop ends its own parts"


def test_compare_without_a_photo_asks_for_one(session: Session):
    for task in set(tab_compare.TITLES) - {"synthesize"}:
        with pytest.raises(My3DGenError, match="There is no photo yet"):
            list(tab_compare._run(session, MODEL, None, [task]))


def test_stopped_between_two_tasks_says_which_are_missing(session: Session, photo: str):
    outcomes, missing = [], []
    for event in tab_compare._run(session, MODEL, photo, ["invert", "edit", "synthesize"]):
        if isinstance(event, Outcome):
            outcomes.append(event)
            jobs.stop(session, "compare")
        missing += [event] if isinstance(event, Missing) else []
    assert [each.task for each in outcomes] == ["invert"]
    (only,) = missing
    assert only.stopped
    assert "Smile +1, New looks" in only.reason
    title = task_panel._done(panels.Running(), outcomes, missing)
    assert "Stopped early" in title
    assert "New looks" in title


def test_a_task_that_fails_loses_nothing_of_the_others(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    def refuses(*_, **__):
        raise My3DGenError("The mask is <odd>.")

    monkeypatch.setitem(fake_backend.TASKS, "inpaint", refuses)
    monkeypatch.setitem(fake_backend.TASKS, "edit", lambda *_, **__: 1 / 0)
    events = list(tab_compare._run(session, MODEL, photo, list(tab_compare.TITLES)))
    outcomes = [event for event in events if isinstance(event, Outcome)]
    assert [each.task for each in outcomes] == ["invert", "upscale", "interpolate", "synthesize"]
    missing = [event for event in events if isinstance(event, Missing)]
    assert missing[0].reason == "Inpainting, centre: The mask is <odd>."
    assert missing[1].reason.startswith("Smile +1: Something went wrong")
    shown = task_panel._done(panels.Running(), outcomes, missing)
    assert "not everything worked" in shown
    assert "&lt;odd&gt;" in shown
    with pytest.raises(My3DGenError, match="odd"):  # nothing at all was made: an error like any other
        list(tab_compare._run(session, MODEL, photo, ["inpaint"]))


def test_what_the_others_made_is_shown_and_in_the_zip(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(fake_backend.TASKS, "inpaint", lambda *_, **__: 1 / 0)
    panels_made = []
    monkeypatch.setattr(tab_compare, "TaskPanel", lambda *values: panels_made.append(TaskPanel(*values)))
    with gr.Blocks(), gr.Tab("Compare") as tab:
        tab_compare.build(Page(), tab)
    mine = service.REGISTRY.get("of this test")
    mine.models[MODEL.id], mine.current = MODEL, MODEL.id
    handler = panels_made[0]._handler()
    *_, last = handler(
        SimpleNamespace(session_hash="of this test"), photo, ["invert", "inpaint", "synthesize"]
    )
    assert "not everything worked" in last[0]
    assert "Inpainting, centre: Something went wrong" in last[0]
    with zipfile.ZipFile(last[-1]["value"]) as file:
        folders = {name.split("/")[0] for name in file.namelist()}
    assert folders == {"invert", "synthesize"}
    assert service.REGISTRY.delete("of this test")


def test_loading_a_prior_keeps_nobody_waiting_who_uses_another(session: Session, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(name, progress=None):
        begun.set()
        assert go_on.wait(120)
        return fake_backend.Prior(name)

    ready = compute.prior("heads")
    monkeypatch.setattr(my3dgen, "load_prior", slow)
    loading = threading.Thread(target=compute.prior, args=("ffhq",), daemon=True)
    loading.start()
    assert begun.wait(30)
    found = []
    other = threading.Thread(
        target=lambda: found.append((compute.prior("heads"), compute.personalized("heads", MODEL.adapter))),
        daemon=True,
    )
    other.start()
    other.join(60)
    assert found, "it waited for the other prior"
    go_on.set()
    loading.join(30)
    assert found[0][0] is ready
    assert compute.prior("ffhq").name == "ffhq"


def test_deleting_twice_empties_everything_twice():
    page, sent = Page(), []
    page.blank(object(), gr.update(value=None, visible=False))

    class Event:
        def success(self, function, _inputs, outputs, **_):
            sent.append(function) if len(outputs) else None

        failure = success

    page.connect(lambda *_, **__: None, Event())
    (blank,) = sent
    for _ in range(2):
        (update,) = blank()
        assert "value" in update
        update.pop("value")  # what Gradio does with an update


def test_full_fine_tuning_is_trained_once_and_a_third_side(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    mine = replace(MODEL, faces=tuple(fake_backend.prepare([photo])))
    events = list(tab_compare._run(session, mine, photo, ["invert", "synthesize"], True))
    first = next(event for event in events if isinstance(event, Progress))
    assert first.stage == "full fine-tuning", "it is trained before anything is compared"
    outcomes = [event for event in events if isinstance(event, Outcome)]
    assert [list(each.sides) for each in outcomes] == [["pretrained", "personalized", "full"]] * 2
    assert outcomes[0].report["full"]["id_sim"] == 0.6
    assert tab_compare._columns(outcomes)[-1] == "Full fine-tuning"
    assert [len(cells) for _, cells in tab_compare._rows(mine, outcomes)] == [4, 4]
    with zipfile.ZipFile(tasks.archive(session, outcomes, "compare")) as file:
        assert "invert/full/image.png" in file.namelist()
    # once a session, and only where it is asked for
    monkeypatch.setattr(my3dgen, "full_fine_tuning", lambda *_, **__: pytest.fail("it is there already"))
    again = list(tab_compare._run(session, mine, photo, ["edit"], True))
    assert list(again[-1].sides) == ["pretrained", "personalized", "full"]
    assert list(list(tasks.invert(session, mine, photo, 0, 0))[-1].sides) == ["pretrained", "personalized"]


def test_full_fine_tuning_stopped_or_without_photos(
    session: Session, photo: str, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(My3DGenError, match="came as a file"):
        list(tab_compare._run(session, MODEL, photo, ["invert"], True))
    mine = replace(MODEL, faces=tuple(fake_backend.prepare([photo])))
    stopped_at(session, "full fine-tuning", monkeypatch, "compare", "full_fine_tuning")
    events = list(tab_compare._run(session, mine, photo, ["invert"], True))
    assert isinstance(events[-1], Missing) and events[-1].stopped
    assert not any(isinstance(event, Outcome) for event in events)
    assert not session.full, "half a training is not kept"
