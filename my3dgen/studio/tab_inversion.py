"""Inversion: a new photo, rebuilt by the pretrained and by the personalized model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from my3dgen.progress import Progress
from my3dgen.studio import examples, inputs, jobs, panels, service, tasks
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import FIT, LIGHT, PRIVATE, Page, session_of
from my3dgen.studio.session import Session

INTRO = (
    "Rebuilds a new photo with both models in under a minute: the personalized one should look more like you."
)

# A clear picture keeps the slider's place until there is something to compare.
NOTHING = (str(Path(__file__).parent / "static" / "empty.png"),) * 2


def build(page: Page) -> None:
    """Lay the tab out and connect it."""
    gr.HTML(panels.intro(INTRO))
    need = gr.HTML(panels.hint(service.NO_MODEL), elem_id="inversion-status")
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            photo = inputs.Image(
                label="A photo the model has not seen",
                sources=["upload", "clipboard"],  # a phone's chooser offers its camera too
                type="filepath",
                format="png",
                buttons=[],
                height=300,
                elem_id="inversion-photo",
            )
            held_out = gr.HTML("", js_on_load=panels.PRESSES, apply_default_css=False, elem_id="held-out")
            with gr.Accordion("Options", open=False):
                steps = gr.Slider(
                    0, 1000, 0, step=10, label="Projection steps", info="0: as many as suit the prior"
                )
                tuning = gr.Slider(
                    0,
                    500,
                    0,
                    step=10,
                    label="Tuning steps",
                    info="0: projection only; more fits this one photo",
                )
            with gr.Row():
                start = gr.Button("Rebuild", variant="primary", interactive=False, elem_id="invert", scale=3)
                stop = gr.Button("Stop", variant="stop", interactive=False, scale=1, min_width=90)
            panel = gr.HTML(_idle(), apply_default_css=False, elem_id="inversion-panel")
        with gr.Column(scale=3, min_width=300):
            shots = gr.HTML(_no_shots(), apply_default_css=False, elem_id="inversion-shots")
            figures = gr.HTML("", apply_default_css=False, elem_id="inversion-figures")
            gr.HTML(
                '<p class="m3-label">Drag the line: pretrained on its left, personalized on its right</p>'
            )
            slider = gr.ImageSlider(
                NOTHING,
                label="Pretrained and personalized",
                show_label=False,
                format="png",
                type="filepath",
                interactive=False,
                buttons=["fullscreen"],
                max_height=512,
                elem_id="inversion-slider",
            )
            novel = gr.HTML("", apply_default_css=False, elem_id="inversion-views")
            download = gr.DownloadButton(
                "Download everything (ZIP)", interactive=False, elem_id="inversion-zip"
            )

    options = {"show_progress": "hidden", **PRIVATE}
    results = [shots, figures, slider, novel, download]
    queued = start.click(_queued, None, [panel, start, stop], **LIGHT, **options)
    running = queued.then(_invert, [photo, steps, tuning], [panel, *results], **FIT, **options)
    page.changed_by(running)
    running.failure(_idle, None, panel, queue=False, **options)
    stop.click(_stop, None, stop, **LIGHT, **options)
    held_out.pick(_pick, None, photo, **LIGHT, **options)
    page.follow(need, _need)
    page.follow(start, lambda session: gr.update(interactive=session.model() is not None))
    page.follow(stop, lambda session: gr.update(interactive="invert" in session.running))
    page.follow(held_out, lambda session: panels.held_out(_person(session)))
    blanks = [
        (panel, _idle()),
        (shots, _no_shots()),
        (slider, NOTHING),
        (figures, ""),
        (novel, ""),
        (photo, None),
    ]
    for component, value in [*blanks, (download, gr.update(value=None, interactive=False))]:
        page.blank(component, value)


def _no_shots() -> str:
    return panels.shots({"Input": None, "Pretrained": None, "Personalized": None})


def _idle() -> str:
    return panels.fit_panel("Not started", 0.0, "", "", "")


def _person(session: Session) -> examples.Example | None:
    return examples.named(session.example) if session.example else None


def _need(session: Session) -> str:
    model = session.model()
    if model is None:
        return panels.hint(service.NO_MODEL)
    return panels.hint(f"Model: {model.label}. Choose a photo, then press Rebuild.", "good")


def _queued() -> Any:
    panel = panels.fit_panel("Waiting for a free place: one fit runs at a time", 0.0, "", "", "")
    return panel, gr.update(interactive=False), gr.update(interactive=True)


@guarded
def _stop(request: gr.Request) -> Any:
    jobs.stop(session_of(request))
    return gr.update(interactive=False)


@guarded
def _pick(event: gr.EventData, request: gr.Request) -> str:
    """A held-out photo of the example person; the client names its place in the list."""
    person, index = _person(session_of(request)), str(event._data.get("id"))
    return (
        dict(zip(map(str, range(len(person.tests))), person.tests, strict=True)).get(index)
        if person
        else None
    )


@guarded
def _invert(photo: str | None, steps: float, tuning: float, request: gr.Request) -> Iterator[Any]:
    """Run it; results stay until the next ones are there."""
    session = session_of(request)
    model, state = service.model_for(session, None), panels.Running()
    nothing = [gr.skip()] * 5
    for report in tasks.invert(session, model, photo, steps, tuning):
        if isinstance(report, Progress):
            state.add(report)
            yield state.html(), *nothing
        else:
            panel = panels.fit_panel("Done", 1.0, "", state.preview, state.curve())
            yield panel, *_results(session, report, tasks.comparison_report(report, model.prior))


def _results(session: Session, comparison: Any, report: dict[str, Any]) -> list[Any]:
    before, after = comparison.pretrained, comparison.personalized
    pictures = {
        "Input": comparison.input,
        "Pretrained": before.images["image"],
        "Personalized": after.images["image"],
    }
    pair = tuple(session.save_image(pictures[name], name.lower()) for name in ("Pretrained", "Personalized"))
    figures = panels.scores(
        before.figures["id_sim"],
        after.figures["id_sim"],
        "How much the rebuilt face looks like the person in the photo (identity similarity, 1 is the same).",
    )
    novel = panels.strips(
        {
            title: [picture for name, picture in side.images.items() if name != "image"]
            for title, side in (
                ("Pretrained, from other sides", before),
                ("Personalized, from other sides", after),
            )
        }
    )
    archive = tasks.comparison_archive(session, comparison, report)
    return [panels.shots(pictures), figures, pair, novel, gr.update(value=archive, interactive=True)]
