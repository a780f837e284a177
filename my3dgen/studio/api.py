"""The public endpoints. They call the same functions as the page and never show in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from my3dgen.errors import MOST, My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import api_tasks, inputs, looking, photo_set, priors, service
from my3dgen.studio.api_tasks import progress_report
from my3dgen.studio.figures import SIDES
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import EXPORT, FIT, READ, RENDER, session_of
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
        rank = inputs.Number(1, precision=0, label=f"rank, 1 to {MOST_RANK}")
        steps = inputs.Number(0, precision=0, label=f"tuning steps, 0 (the prior's default) to {MOST_STEPS}")
        seed = inputs.Number(0, precision=0, label=f"seed, 0 to {MOST}")
        symmetry = gr.Checkbox(label="symmetry: also train on consistency with the mirrored face")
        adapter_file = gr.File(label="adapter (.safetensors)")
        adapter_in = inputs.File(label="adapter (.safetensors)")
        adapter = inputs.File(None, label="adapter (.safetensors); without one, the session's own")
        anchor = inputs.Number(0, precision=0, label="which of the adapter's anchors, from 0")
        yaw = inputs.Number(0.0, label="yaw in radians, -1 to 1; > 0 shows more of the person's left cheek")
        pitch = inputs.Number(0.0, label="pitch in radians, -0.8 to 0.8; > 0 looks from above")
        pretrained = gr.Image(label="pretrained", format="png", type="filepath")
        personalized = gr.Image(label="personalized", format="png", type="filepath")
        kind = gr.Textbox("glb", label="format: glb or ply (mesh), mp4 (turntable) or png (front view)")
        resolution = inputs.Number(
            128, precision=0, label="resolution of a mesh, samples along a side, 32 to 256"
        )
        frames = inputs.Number(60, precision=0, label="frames of a turntable, 12 to 240, at 30 a second")
        exported = [gr.File(label=side) for side in SIDES]
        trigger = gr.Button()

    def endpoint(function: Any, takes: list[Any], outputs: list[Any], name: str, **options: Any) -> None:
        trigger.click(
            guarded(function), takes, outputs, api_name=name, api_description=function.__doc__, **options
        )

    task = [pretrained, personalized, report]
    options = [prior, rank, steps, seed, symmetry]
    endpoint(prepare, [photos, consent, prior], [gallery, report], "prepare", **READ)
    endpoint(load_example, [example], [gallery, report], "load_example", **READ)
    endpoint(personalize, options, [adapter_file, report], "personalize", **FIT)
    endpoint(load_adapter, [adapter_in], [report], "load_adapter", **RENDER)
    endpoint(render, [anchor, yaw, pitch, adapter], task, "render", **RENDER)
    export_takes = [kind, anchor, resolution, frames, adapter]
    endpoint(export, export_takes, [*exported, report], "export", **EXPORT)
    api_tasks.build(endpoint, task, adapter)
    endpoint(delete_my_data, [], [report], "delete_my_data", queue=False)


def prepare(photos: list[str], consent: bool, prior: str = "", request: gr.Request = None) -> Any:
    """Read photos of one person (or cat) into this session, in place of the ones before, as a prior needs them;
    without one named, for the one used last or else the default. Returns the crops of the usable ones and a JSON
    report: {"accepted": [{"source", "camera" (25 numbers), "yaw_degrees", "pitch_degrees", "warnings"}],
    "refused": [{"source", "reason"}], "notes": sentences about the set, "example"}."""
    session = session_of(request)
    service.REGISTRY.agree(request.session_hash, consent is True)
    service.add_photos(session, photos or [], consent, replace_all=True, prior=prior)
    return photo_set.gallery(session), photo_set.report(session)


def load_example(name: str, request: gr.Request) -> Any:
    """Read an example person's photos into this session, in place of the ones before. Returns what /prepare
    does."""
    session = session_of(request)
    service.load_example(session, name)
    return photo_set.gallery(session), photo_set.report(session)


def personalize(
    prior: str, rank: float, steps: float, seed: float, symmetry: bool, request: gr.Request
) -> Iterator[Any]:
    """Personalize a prior to the session's photos. Yields reports {"stage", "step", "steps", "seconds_left"},
    at last the adapter file and {"prior", "rank", "bytes", "trainable_parameters", "anchors", "seconds",
    "id_sim", "stopped"}. The same photos and options answer at once; photos that were read for a prior of another
    kind (people, cats) are read again first."""
    session = session_of(request)
    for event in service.fit(session, service.fit_options(prior, rank, steps, seed, symmetry)):
        yield (None, progress_report(event)) if isinstance(event, Progress) else (event.path, event.report)


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
    result = looking.render(session, service.model_for(session, adapter), anchor, yaw, pitch)
    return *api_tasks.pictures(session, {side: result[side] for side in SIDES}), result["report"]


def export(
    format: str,
    anchor: float,
    resolution: float,
    frames: float,
    adapter: str | None = None,
    request: gr.Request = None,
) -> Iterator[Any]:
    """A file of one anchor's face by each model. Yields reports, at last two files and {"prior", "format", "anchor",
    "pretrained": {"bytes", "stopped"}, "personalized": {the same}}. Meshes: y up, z towards the viewer, a colour at
    each vertex."""
    session = session_of(request)
    model = service.model_for(session, adapter)
    files: list[str] = []
    about: dict[str, Any] = {}
    for side in SIDES:
        for event in looking.export(session, model, [format], anchor, resolution, frames, side=side):
            if isinstance(event, Progress):
                yield None, None, progress_report(replace(event, stage=f"{side}: {event.stage}"))
                continue
            path = event.files.get(format)
            if path is None:
                raise My3DGenError("The export was stopped before its file was finished.")
            files.append(path)
            about[side] = {"bytes": Path(path).stat().st_size, "stopped": event.stopped}
    yield *files, {"prior": model.prior, "format": format, "anchor": int(anchor)} | about


def delete_my_data(request: gr.Request) -> dict[str, bool]:
    """Delete everything of this session from the server at once. Returns {"deleted": whether there was
    anything}."""
    return {"deleted": service.REGISTRY.delete(request.session_hash)}
