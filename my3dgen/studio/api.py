"""The public endpoints. They call the same functions as the page and never show in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from my3dgen.progress import Progress
from my3dgen.studio import inputs, priors, service, tasks
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import FIT, LIGHT, RENDER, session_of
from my3dgen.studio.service import MOST_RANK, MOST_STEPS


def build() -> None:
    """Declare every endpoint with its types."""
    with gr.Column(visible=False):
        photos = inputs.File(label="photos: 1 to 50 pictures of one person", file_count="multiple")
        consent = gr.Checkbox(label="consent: the person in the photos agrees")
        gallery = gr.Gallery(label="crops of the usable photos", format="png", type="filepath")
        report = gr.JSON(label="report")
        example = gr.Textbox(label="name of an example person")
        names = ["", *(offer.name for offer in priors.offered())]
        prior = inputs.Dropdown(names, value="", label="prior; empty for the default")
        rank = gr.Number(1, precision=0, label=f"rank, 1 to {MOST_RANK}")
        steps = gr.Number(0, precision=0, label=f"tuning steps, 0 (the prior's default) to {MOST_STEPS}")
        seed = gr.Number(0, precision=0, label="seed, 0 or more")
        symmetry = gr.Checkbox(label="symmetry: also train on consistency with the mirrored face")
        adapter_file = gr.File(label="adapter (.safetensors)")
        adapter_in = inputs.File(label="adapter (.safetensors)")
        adapter = inputs.File(None, label="adapter (.safetensors); without one, the session's own")
        anchor = gr.Number(0, precision=0, label="which of the adapter's anchors, from 0")
        yaw = gr.Number(0.0, label="yaw in radians, -1 to 1; > 0 shows more of the person's left cheek")
        pitch = gr.Number(0.0, label="pitch in radians, -0.8 to 0.8; > 0 looks from above")
        photo = inputs.File(label="photo: a picture of the person")
        fit_steps = gr.Number(
            0, precision=0, label=f"projection steps, 0 (the prior's default) to {MOST_STEPS}"
        )
        tuning_steps = gr.Number(0, precision=0, label=f"tuning steps, 0 (projection only) to {MOST_STEPS}")
        pretrained = gr.Image(label="pretrained", format="png", type="filepath")
        personalized = gr.Image(label="personalized", format="png", type="filepath")
        trigger = gr.Button()

    def endpoint(function: Any, takes: list[Any], outputs: list[Any], name: str, **options: Any) -> None:
        trigger.click(
            guarded(function), takes, outputs, api_name=name, api_description=function.__doc__, **options
        )

    task = [pretrained, personalized, report]
    options = [prior, rank, steps, seed, symmetry]
    endpoint(prepare, [photos, consent], [gallery, report], "prepare", **RENDER)
    endpoint(load_example, [example], [gallery, report], "load_example", **RENDER)
    endpoint(personalize, options, [adapter_file, report], "personalize", **FIT)
    endpoint(load_adapter, [adapter_in], [report], "load_adapter", **RENDER)
    endpoint(render, [anchor, yaw, pitch, adapter], task, "render", **RENDER)
    endpoint(invert, [photo, fit_steps, tuning_steps, adapter], task, "invert", **FIT)
    endpoint(delete_my_data, [], [report], "delete_my_data", **LIGHT)


def prepare(photos: list[str], consent: bool, request: gr.Request) -> Any:
    """Read photos of one person into this session, in place of the ones before. Returns the crops of the
    usable ones and a JSON report: {"accepted": [{"source", "camera" (25 numbers), "yaw_degrees",
    "pitch_degrees", "warnings"}], "refused": [{"source", "reason"}],
    "notes": sentences about the set, "example"}."""
    session = session_of(request)
    service.add_photos(session, photos or [], consent, replace_all=True)
    return service.photos_gallery(session), service.photos_report(session)


def load_example(name: str, request: gr.Request) -> Any:
    """Read an example person's photos into this session, in place of the ones before. Returns what /prepare
    does."""
    session = session_of(request)
    service.load_example(session, name)
    return service.photos_gallery(session), service.photos_report(session)


def personalize(
    prior: str, rank: float, steps: float, seed: float, symmetry: bool, request: gr.Request
) -> Iterator[Any]:
    """Personalize a prior to the session's photos. Yields reports {"stage", "step", "steps", "seconds_left"},
    at last the adapter file and {"prior", "rank", "bytes", "trainable_parameters", "anchors", "seconds",
    "id_sim", "stopped"}. The same photos and options answer at once."""
    session = session_of(request)
    for event in service.fit(session, service.fit_options(prior, rank, steps, seed, symmetry)):
        yield (None, _progress(event)) if isinstance(event, Progress) else (event.path, event.report)


def load_adapter(file: str, request: gr.Request) -> Any:
    """Use an adapter file in this session. Returns {"prior", "rank", "bytes", "trainable_parameters",
    "anchors"}."""
    return service.load_adapter(session_of(request), file).report


def render(
    anchor: float, yaw: float, pitch: float, adapter: str | None = None, request: gr.Request = None
) -> Any:
    """One anchor seen by one camera, by both models. Returns two PNG pictures and {"prior", "anchor", "yaw",
    "pitch", "extrapolation"}."""
    session = session_of(request)
    result = tasks.render(session, service.model_for(session, adapter), anchor, yaw, pitch)
    return (
        session.save_image(result["pretrained"], "pretrained"),
        session.save_image(result["personalized"], "personalized"),
        result["report"],
    )


def invert(
    photo: str, steps: float, tuning_steps: float, adapter: str | None = None, request: gr.Request = None
) -> Iterator[Any]:
    """A new photo rebuilt by both models. Yields reports, at last two PNG pictures and {"prior",
    "pretrained": {"id_sim", "perceptual", "seconds"}, "personalized": {the same}}."""
    session = session_of(request)
    model = service.model_for(session, adapter)
    for event in tasks.invert(session, model, photo, steps, tuning_steps):
        if isinstance(event, Progress):
            yield None, None, _progress(event)
        else:
            yield (
                session.save_image(event.pretrained.images["image"], "pretrained"),
                session.save_image(event.personalized.images["image"], "personalized"),
                tasks.comparison_report(event, model.prior),
            )


def delete_my_data(request: gr.Request) -> dict[str, bool]:
    """Delete everything of this session from the server at once. Returns {"deleted": whether there was
    anything}."""
    return {"deleted": service.REGISTRY.delete(request.session_hash)}


def _progress(report: Progress) -> dict[str, Any]:
    return {
        "stage": report.stage,
        "step": report.step,
        "steps": report.steps,
        "seconds_left": None if report.seconds_left is None else round(report.seconds_left, 1),
    }
