"""Compare: one photo through all tasks, and a contact sheet of it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import figures, tasks
from my3dgen.studio.guard import visible
from my3dgen.studio.jobs import running
from my3dgen.studio.page import Page
from my3dgen.studio.pictures import contact_sheet, tiled
from my3dgen.studio.session import Model, Session
from my3dgen.studio.task_panel import Shown, Task, TaskPanel, no_file, photo_there
from my3dgen.studio.tasks import Event, Missing, Outcome

FULL_HELP = (
    "What the paper compares with: every weight but the mapping's tuned to your photos, not a small adapter. It is trained "
    "first, which takes as long as personalizing did."
)
INTRO = "Takes one photo through all tasks, a minute or two each at most, and puts everything on one contact sheet."
LIKENESS = "How much the faces look like the person (identity similarity, mean over the tasks below)."
TITLES = {
    "invert": "Inversion",
    "inpaint": "Inpainting, centre",
    "upscale": "Super-resolution",
    "edit": "Smile +1",
    "interpolate": "Interpolation to your first photo",
    "synthesize": "New looks",
}
SEEN = {"inpaint": "masked", "upscale": "input"}  # the picture that shows what the models saw
STRIPS = ("interpolate", "synthesize")  # tasks whose results are several pictures
STRIP = 4  # pictures of a strip on the sheet


def build(page: Page, tab: gr.Tab) -> None:
    """Lay the tab out and connect it."""
    empty = Shown(
        figures=figures.scores(None, None, LIKENESS),
        more=(figures.comparison_table([], _columns([])), no_file()),
    )

    def more() -> Sequence[Any]:
        table = gr.HTML(empty.more[0], apply_default_css=False, elem_id="compare-table")
        return [
            table,
            gr.DownloadButton("Download the contact sheet (PNG)", interactive=False, elem_id="compare-sheet"),
        ]

    task = Task(
        key="compare",
        job="compare",
        intro=INTRO,
        verb="Compare",
        run=_run,
        show=_show,
        empty=empty,
        controls=_controls,
        more=more,
        check=_check,
        pair="A picture of every task.",
    )
    TaskPanel(page, tab, task)


def _controls(panel: TaskPanel) -> Sequence[Any]:
    choices = [(title, task) for task, title in TITLES.items()]
    return [
        gr.CheckboxGroup(choices, value=list(TITLES), label="Tasks", elem_id="compare-tasks"),
        gr.Checkbox(
            False, label="Full fine-tuning as a third column", info=FULL_HELP, elem_id="compare-full"
        ),
    ]


def _check(photo: str | None, chosen: list[str], full: bool = False) -> None:
    if not any(task in chosen for task in TITLES):
        raise My3DGenError("No task is chosen; tick at least one.")
    if "synthesize" not in chosen:  # all others need it
        photo_there(photo)


def _run(
    session: Session, model: Model, photo: str | None, chosen: list[str], full: bool = False
) -> Iterator[Event]:
    if full:
        tuned = yield from tasks.tune_fully(session, model, "compare")
        if tuned is None:
            yield Missing("compare", "Full fine-tuning was stopped, and nothing was compared.", True)
            return
        model = replace(model, full=tuned)
    failed: list[Missing] = []
    with running(session, "compare") as stop_file:
        # parts of this job: their own tabs' jobs of the same names may run or wait beside it
        runs = {
            "invert": lambda: tasks.invert(session, model, photo, 0, 0, stop_file),
            "inpaint": lambda: tasks.inpaint(session, model, photo, None, "centre", 0, stop_file),
            "upscale": lambda: tasks.upscale(session, model, photo, 0, 0, stop_file),
            "edit": lambda: tasks.edit(session, model, photo, "smile", 1.0, "project", 0, stop_file),
            "interpolate": lambda: tasks.interpolate(session, model, photo or "", 0, 6, stop_file),
            "synthesize": lambda: tasks.synthesize(session, model, 4, 0, "dirichlet", 1.0, stop_file),
        }
        asked = [task for task in runs if task in chosen]
        for place, task in enumerate(asked):
            if Path(stop_file).exists():
                rest = ", ".join(TITLES[each] for each in asked[place:])
                yield Missing(task, f"Not done any more: {rest}.", True)
                return
            for item in _shielded(session, task, f"{place + 1} of {len(asked)}", runs[task]):
                if isinstance(item, Missing) and not item.stopped:
                    failed.append(item)
                yield item
    if len(failed) == len(asked):
        # All for the same reason, mostly: a photo that none of them can use.
        raise My3DGenError(" ".join(dict.fromkeys(each.reason for each in failed)))


def _shielded(session: Session, task: str, place: str, run: Callable[[], Iterator[Event]]) -> Iterator[Event]:
    """One of the tasks; if it fails, the others go on. What it reports and misses has its name in front."""
    try:
        for item in run():
            if isinstance(item, Progress):
                yield replace(item, stage=f"{TITLES[task]}, {place}: {item.stage}")
            elif isinstance(item, Missing):
                yield replace(item, reason=f"{TITLES[task]}: {item.reason}")
            else:
                yield item
    except Exception as error:
        if session.deleted:
            raise
        yield Missing(task, f"{TITLES[task]}: {html.unescape(visible(error).message)}", False)


def _show(session: Session, model: Model, outcomes: list[Outcome], *_: Any) -> Shown:
    means = {
        side: float(np.mean([outcome.figure("id_sim")[side] for outcome in outcomes]))
        for side in outcomes[0].sides
    }
    third = {title: means.pop(side) for side, title in figures.FULL.items() if side in means}
    rows, columns = _rows(model, outcomes), _columns(outcomes)
    picture = contact_sheet(rows, columns)
    (sheet,) = session.save_newest("contact sheet", [("my3dgen-contact-sheet", picture)], most=2)
    bars = figures.scores(**means, caption=LIKENESS, others=third)
    pair = {side: tiled([_one(outcome, side) for outcome in outcomes]) for side in figures.SIDES}
    return Shown(
        figures=bars,
        pair=pair,
        more=(
            figures.comparison_table(rows, columns),
            gr.update(value=sheet, interactive=True),
        ),
        note=outcomes[0].note,
    )


def _columns(outcomes: list[Outcome]) -> list[str]:
    names = figures.SIDES | figures.FULL
    sides = outcomes[0].sides if outcomes else figures.SIDES
    return ["What the models saw", *(names[side] for side in sides)]


def _rows(model: Model, outcomes: list[Outcome]) -> list[tuple[str, list[tuple[list[np.ndarray], str]]]]:
    """For each task its title and its cells: what the models saw, and what either made with its score."""
    rows = []
    photo = next(
        (each.comparison.input for each in outcomes if each.task in ("invert", "inpaint", "edit")), None
    )
    for outcome in outcomes:
        before = outcome.sides["pretrained"]
        seen = before.images.get(SEEN.get(outcome.task, ""), outcome.comparison.input)
        title = TITLES[outcome.task]
        if outcome.task == "interpolate":
            # Made beforehand, it goes from one of the person's own photos to another.
            seen, title = (None, "Interpolation") if outcome.ready else (photo, title)
        # New looks have seen no photo but those the model was made from.
        own = [face.image for face in model.faces[:STRIP]]
        cells = [(own, "some of your photos" if own else "") if seen is None else ([seen], "")]
        for side, result in outcome.sides.items():
            cells.append((_pictures(outcome.task, result), f"identity {outcome.figure('id_sim')[side]:.2f}"))
        rows.append((title, cells))
    return rows


def _pictures(task: str, result: Any) -> list[np.ndarray]:
    """What stands for a result: its picture, or a few frames of a strip."""
    if task not in STRIPS:
        return [result.images["image"]]
    places = np.linspace(0, len(result.frames) - 1, min(STRIP, len(result.frames)))
    return [result.frames[round(float(place))] for place in places]


def _one(outcome: Outcome, side: str) -> np.ndarray:
    """The picture of a task on the slider; of a strip one from the middle, the same of both sides also of stopped ones."""
    if outcome.task not in STRIPS:
        return outcome.sides[side].images["image"]
    frames = outcome.common_frames[side]
    return frames[(len(frames) - 1) // 2]
