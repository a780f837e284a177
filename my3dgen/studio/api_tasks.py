"""The endpoints of the tasks: each gives the pretrained picture, the personalized one, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr
import numpy as np

from my3dgen.errors import MOST, My3DGenError
from my3dgen.progress import Progress
from my3dgen.studio import inputs, service, tasks
from my3dgen.studio.page import EXPORT, FIT, session_of
from my3dgen.studio.service import MOST_STEPS, REGISTRY
from my3dgen.studio.session import Model, Session

ANSWERS = 64  # answers whose pictures a session keeps


def build(endpoint: Callable[..., None], outputs: list[Any], adapter: Any) -> None:
    """Declare the endpoints. endpoint: makes one of a function, its inputs, its outputs and its name."""
    with gr.Column(visible=False):
        photo = inputs.File(label="photo: a picture of the person")
        projection = inputs.Number(
            0, precision=0, label=f"projection steps, 0 (the prior's default) to {MOST_STEPS}"
        )
        tuning = inputs.Number(0, precision=0, label=f"tuning steps, 0 (projection only) to {MOST_STEPS}")
        steps = inputs.Number(
            0, precision=0, label=f"steps of the fit, 0 (the prior's default) to {MOST_STEPS}"
        )
        mask = inputs.File(
            None,
            label="mask: a picture, white where to paint, as large as the photo or else as its crop (512 x 512)",
        )
        region = gr.Textbox("centre", label=f"region, without a mask: {', '.join(tasks.REGIONS)}")
        size = inputs.Number(
            0,
            precision=0,
            label=f"size: reduce the face's crop to so many pixels first, {tasks.SMALLEST} to {tasks.LARGEST}; "
            f"0: the photo is small itself, or becomes {tasks.REDUCED}",
        )
        start = inputs.File(None, label="start: a photo; without one, start_anchor")
        end = inputs.File(None, label="end: a photo; without one, end_anchor")
        pictures = inputs.Number(
            10, precision=0, label=f"steps: pictures on the way, {tasks.FRAMES[0]} to {tasks.FRAMES[1]}"
        )
        start_anchor = inputs.Number(
            -1, precision=0, label="start_anchor: one of the adapter's anchors, from 0; -1: none"
        )
        end_anchor = inputs.Number(
            -1, precision=0, label="end_anchor: likewise; both -1: the two farthest apart"
        )
        count = inputs.Number(6, precision=0, label=f"count of pictures, 1 to {tasks.MOST_LOOKS}")
        seed = inputs.Number(0, precision=0, label=f"seed, 0 to {MOST}")
        rule = gr.Textbox(
            "dirichlet", label="rule: dirichlet (all anchors share) or three (three anchors each)"
        )
        share = inputs.Number(1.0, label="strength, 0 (the anchors' mean) to 1 (as drawn)")
        attribute = gr.Textbox("smile", label=f"attribute: {', '.join(tasks.ATTRIBUTES)}")
        strength = inputs.Number(
            1.0, label="strength, -2 to 2; 1 is one standard deviation among random faces (of age 1.8)"
        )
        policy = gr.Textbox("project", label=f"policy at the edge of the hull: {', '.join(tasks.POLICIES)}")

    def task(function: Any, takes: list[Any], name: str, where: Mapping[str, Any] = FIT) -> None:
        endpoint(function, takes, outputs, name, **where)

    task(invert, [photo, projection, tuning, adapter], "invert")
    task(inpaint, [photo, mask, region, steps, adapter], "inpaint")
    task(upscale, [photo, size, steps, adapter], "upscale")
    task(interpolate, [start, end, pictures, start_anchor, end_anchor, adapter], "interpolate")
    task(synthesize, [count, seed, rule, share, adapter], "synthesize", EXPORT)
    task(edit, [photo, attribute, strength, policy, steps, adapter], "edit")


def invert(
    photo: str, steps: float, tuning_steps: float, adapter: str | None = None, request: gr.Request = None
) -> Iterator[Any]:
    """A new photo rebuilt by both models. Yields reports, at last two PNG pictures and {"prior", "networks",
    "pretrained": {"id_sim", "perceptual", "seconds"}, "personalized": {the same}}."""
    session, model = _model(request, adapter, photo)
    yield from _answers(session, tasks.invert(session, model, photo, steps, tuning_steps))


def inpaint(
    photo: str,
    mask: str | None = None,
    region: str = "centre",
    steps: float = 0,
    adapter: str | None = None,
    request: gr.Request = None,
) -> Iterator[Any]:
    """Part of a photo painted anew by both models. Yields reports, at last two PNG pictures (the crop, 512
    pixels) and {"prior", "networks", "pretrained": {"id_sim", "image_id_sim", "perceptual", "masked_share", "seconds"},
    "personalized": {the same}}."""
    session, model = _model(request, adapter, photo, mask)
    yield from _answers(session, tasks.inpaint(session, model, photo, mask or None, region, steps))


def upscale(
    photo: str, size: float, steps: float, adapter: str | None = None, request: gr.Request = None
) -> Iterator[Any]:
    """A small photo sharpened by both models. Yields reports, at last two PNG pictures (512 pixels) and
    {"prior", "networks", "pretrained": {"id_sim", "side" (the crop's true pixels), "seconds", and where there is
    something sharp to compare with "lanczos_id_sim", "perceptual", "lanczos_perceptual"}, "personalized":
    {the same}}."""
    session, model = _model(request, adapter, photo)
    yield from _answers(session, tasks.upscale(session, model, photo, size, steps))


def interpolate(
    start: str | None = None,
    end: str | None = None,
    steps: float = 10,
    start_anchor: float = -1,
    end_anchor: float = -1,
    adapter: str | None = None,
    request: gr.Request = None,
) -> Iterator[Any]:
    """From one face to another in both models. Yields reports, at last two PNG pictures (the steps side by
    side) and {"prior", "networks", "pretrained": {"id_sim" (mean), "t", "id_sims", "ends", "seconds"}, "personalized":
    {the same}}."""
    session, model = _model(request, adapter, start, end)
    ends = [
        photo or (None if anchor == -1 else anchor)
        for photo, anchor in ((start, start_anchor), (end, end_anchor))
    ]
    yield from _answers(session, tasks.interpolate(session, model, *ends, steps))


def synthesize(
    count: float,
    seed: float,
    rule: str,
    strength: float,
    adapter: str | None = None,
    request: gr.Request = None,
) -> Iterator[Any]:
    """New looks of the person in both models. Yields reports, at last two PNG pictures (a grid) and {"prior", "networks",
    "pretrained": {"id_sim" (mean), "diversity", "diversity_std", "weights" (of the anchors), "anchors" (whose), "references", "seconds"},
    "personalized": {the same}}."""
    session, model = _model(request, adapter)
    yield from _answers(session, tasks.synthesize(session, model, count, seed, rule, strength))


def edit(
    photo: str,
    attribute: str,
    strength: float,
    policy: str,
    steps: float,
    adapter: str | None = None,
    request: gr.Request = None,
) -> Iterator[Any]:
    """A photo rebuilt and changed along an attribute by both models. Yields reports, at last two PNG pictures
    and {"prior", "networks", "pretrained": {"id_sim", "score", "strengths", "scores", "id_sims" (along the slider),
    "seconds"}, "personalized": {the same}}."""
    session, model = _model(request, adapter, photo)
    yield from _answers(session, tasks.edit(session, model, photo, attribute, strength, policy, steps))


def _model(request: gr.Request, adapter: str | None, *files: str | None) -> tuple[Session, Model]:
    """Who calls, and the model that is meant; the files that came along are the caller's from here on, whatever fails."""
    session = session_of(request)
    REGISTRY.owns_uploads(session, filter(None, files))
    return session, service.model_for(session, adapter)


def _answers(session: Session, stream: Iterator[tasks.Event]) -> Iterator[Any]:
    """What an endpoint yields of a task."""
    for event in stream:
        if isinstance(event, Progress):
            yield None, None, progress_report(event)
        elif isinstance(event, tasks.Missing):
            raise My3DGenError(f"Stopped. {event.reason}")
        else:
            sides = {side: result.images["image"] for side, result in event.sides.items()}
            yield *pictures(session, sides), event.report


def pictures(session: Session, sides: Mapping[str, np.ndarray]) -> list[str]:
    """Save pictures uint8 [H, W, 3] for an answer; only the newest answers' stay, or a face that turns would fill the disk."""
    return session.save_newest("answers", sides.items(), most=ANSWERS)


def progress_report(report: Progress) -> dict[str, Any]:
    """The JSON of a report."""
    return {
        "stage": report.stage,
        "step": report.step,
        "steps": report.steps,
        "seconds_left": None if report.seconds_left is None else round(report.seconds_left, 1),
    }
