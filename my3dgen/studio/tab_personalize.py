"""Personalize: from the photos to an adapter, with progress, a preview and a stop button."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from my3dgen.progress import Progress
from my3dgen.studio import compute, figures, inputs, panels, photo_set, priors, service
from my3dgen.studio.guard import guarded
from my3dgen.studio.jobs import turn
from my3dgen.studio.page import FIT, LIGHT, QUIET, RENDER, Job, Page, has_model, session_of
from my3dgen.studio.session import Session

WORKING = "Working: leave this page open and the screen on. If you stop now, there is nothing to keep yet."
STOPPING = "Working: leave this page open and the screen on. You can stop now and keep what there is."
INTRO = "Finds each photo in the pretrained model, then teaches it your face: a few minutes on a laptop."


def build(page: Page) -> None:
    """Lay the tab out and connect it."""
    gr.HTML(panels.intro(INTRO))
    prior_note = gr.HTML("", elem_id="prior-note")
    with gr.Row():
        start = gr.Button("Personalize", variant="primary", interactive=False, elem_id="personalize", scale=3)
        stop = gr.Button("Stop", variant="stop", interactive=False, elem_id="stop", scale=1, min_width=90)
    need = gr.HTML(panels.hint(service.NO_PHOTOS), elem_id="personalize-status")
    with gr.Accordion("Options", open=False, elem_id="fit-options"), gr.Row():
        prior = gr.Dropdown(
            [("default", ""), *((offer.title, offer.name) for offer in priors.offered())],
            value="",
            label="Prior",
            info="The pretrained model to start from",
            elem_id="prior",
        )
        rank = gr.Slider(1, service.MOST_RANK, 1, step=1, label="Rank", info="1 is the published choice")
        steps = gr.Slider(0, 1000, 0, step=10, label="Steps", info="0: as many as suit the prior")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="Another number, another run")
        symmetry = gr.Checkbox(label="Symmetry", info="Helps when all photos show the same side")
    panel = gr.HTML(panels.not_started(), apply_default_css=False, elem_id="fit-panel")
    result = gr.HTML("", apply_default_css=False, elem_id="fit-result")
    with gr.Row(equal_height=True):
        chooser = inputs.Dropdown([], label="Model in use", interactive=False, elem_id="model", scale=3)
        download = gr.DownloadButton(
            "Download this model", interactive=False, elem_id="download-adapter", scale=1, min_width=180
        )
    with gr.Accordion("I already have an adapter file", open=False):
        upload = inputs.File(
            label="Adapter (.safetensors)", file_types=[".safetensors"], height=120, elem_id="adapter-file"
        )
    onwards = gr.Button("Next: look around", variant="primary", interactive=False, elem_id="to-look")

    options = QUIET
    place, check = "one personalization runs at a time", service.fit_options
    job = Job("fit", place, start, stop, panel, _ready, check=check)
    page.runs(job, _fit, [prior, rank, steps, seed, symmetry], [panel, need], **FIT)
    page.changed_by(chooser.input(_choose, chooser, None, **LIGHT, **options))
    loading = page.changed_by(upload.upload(_upload, upload, upload, **RENDER, **options))
    loading.failure(lambda: None, None, upload, queue=False, **options)
    page.go(onwards, "look")
    page.follow(need, _need)
    page.blank(panel, panels.not_started())
    page.follow(result, _result)
    page.follow(chooser, _chooser)
    page.follow(download, _download)
    page.follow(onwards, lambda session: gr.update(interactive=has_model(session)))
    page.on_load(_priors, [prior_note, prior, page.research])
    page.blank(prior, "")
    page.changed_by(prior.change(_chosen, prior, [prior_note, page.research], **LIGHT, **options))


def _title(offer: priors.Offer) -> str:
    return offer.title if priors.installed(offer.name) else f"{offer.title}, not installed here"


@guarded
def _priors(request: gr.Request) -> Any:
    """Which prior is the default here, and which are installed (asked late: it takes torch)."""
    offer = priors.about(priors.default())
    # another one may have been chosen while that was found out; whoever only opens the page has no session yet
    known = service.REGISTRY.knows(request.session_hash)
    chosen = priors.checked(session_of(request).prior if known else "")
    choices = [(f"default ({offer.title})", ""), *((_title(each), each.name) for each in priors.offered())]
    return _note(chosen), gr.update(choices=choices), panels.research_data(chosen)


@guarded
def _chosen(prior: str, request: gr.Request) -> Any:
    """Another prior: what to know before it is used, and from now on photos are read for it."""
    session = session_of(request)
    session.prior = priors.checked(prior)
    return _note(session.prior), panels.research_data(session.prior)


def _note(prior: str) -> str:
    offer, (_, how) = priors.about(prior), compute.kind_of(prior)
    return panels.prior_note(offer.title, offer.about, [how, compute.terms(prior), compute.download(prior)])


def _ready(session: Session) -> bool:
    # Photos that were refused for one kind of prior may be good for another.
    return bool(session.accepted() or photo_set.stale(session))


def _need(session: Session) -> Any:
    if "fit" in session.running:
        return gr.skip()
    if stale := len(photo_set.stale(session)):
        photos = f"{stale} photo{'s were' if stale > 1 else ' was'}"
        return panels.hint(
            f"{photos} read for another kind of prior, and will first be read again for this one.", "good"
        )
    usable = len(session.accepted())
    if usable == 0:
        return panels.hint("A model is loaded: go and look around." if session.models else service.NO_PHOTOS)
    return panels.hint(f"Ready: {usable} photo{'s' if usable > 1 else ''} of one person.", "good")


def _result(session: Session) -> str:
    model = session.model()
    if model is None:
        return ""
    report, identity = model.report, model.report.get("id_sim", {})
    size = f"{report['trainable_parameters']:,} trained values, {report['bytes'] / 1000:.0f} kB"
    if "pretrained" not in identity:
        return panels.hint(f"{model.label}: {size}.", "good")
    return figures.scores(
        identity["pretrained"],
        identity["personalized"],
        f"How much each rebuilt photo looks like your other photos (identity similarity, 1 is the same). "
        f"{size}, {panels.duration(sum(report['seconds'].values()))}.",
        identity.get("photos"),
    )


def _chooser(session: Session) -> Any:
    choices = [(model.label, model.id) for model in session.models.values()]
    return gr.update(choices=choices, value=session.current, interactive=len(choices) > 1)


def _download(session: Session) -> Any:
    model = session.model()
    return gr.update(value=model.path if model else None, interactive=model is not None)


@guarded
def _fit(
    prior: str, rank: float, steps: float, seed: float, symmetry: bool, request: gr.Request
) -> Iterator[Any]:
    """Run a fit."""
    session = session_of(request)
    with turn(session, "fit"):
        yield from _reports(session, service.fit_options(prior, rank, steps, seed, symmetry))


def _reports(session: Session, options: service.FitOptions) -> Iterator[Any]:
    state = panels.Running()
    yield state.html(), gr.skip()  # the prior may have to be loaded first
    for report in service.fit(session, options):
        if isinstance(report, Progress):
            state.add(report)
            yield state.html(), panels.hint(STOPPING if report.stage == "personalize" else WORKING)
        else:
            done = "Stopped early" if report.report.get("stopped") else "Done"
            panel = panels.fit_panel(f"{done}: {report.label}", 1.0, "", state.preview, state.curve())
            yield panel, gr.skip()


@guarded
def _choose(model_id: str, request: gr.Request) -> None:
    service.choose(session_of(request), model_id)


@guarded
def _upload(path: str, request: gr.Request) -> None:
    """Load an adapter file; the upload box is empty again for the next one."""
    service.load_adapter(session_of(request), path)
