"""HTML the page shows: everything that came from a visitor is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from my3dgen.progress import Progress
from my3dgen.studio.examples import Example, thumbnail
from my3dgen.studio.photo_set import angles
from my3dgen.studio.pictures import data_uri
from my3dgen.studio.session import Model, Photo

STAGES = {
    "prepare": "Reading photos",
    "project": "Projection: finding you in the pretrained model",
    "personalize": "Personalization: teaching the model your face",
    "full fine-tuning": "Full fine-tuning: teaching every weight your face",
    "mesh": "Mesh: looking for the surface",
    "film": "Turntable: rendering the frames",
}
TASK_STAGES = {
    "project": "finding this photo",
    "fit": "finding this photo",
    "directions": "finding out how the attribute is changed (once for a prior)",
    "interpolate": "walking from one to the other",
    "synthesize": "making new looks",
    "tune": "tuning to this photo",
    "pivotal": "tuning to this photo",
}
# The sets of both papers, in the order they list them.
CELEBRITIES = (
    "Barack Obama",
    "Michelle Obama",
    "Joe Biden",
    "Oprah Winfrey",
    "Scarlett Johansson",
    "Taylor Swift",
    "Xi Jinping",
    "Kamala Harris",
    "Dwayne Johnson",
)
JUMP = 1.6  # from one report to the next, a loss of the same kind does not grow by more
# A press on anything with data-event inside the component becomes a Gradio event of that name.
PRESSES = """
const names = ['pick', 'remove'];
element.addEventListener('click', (event) => {
  const pressed = event.target.closest('[data-event]');
  const name = pressed && pressed.dataset.event;
  if (names.includes(name)) trigger(name, { id: pressed.dataset.id });
});
"""


def hint(text: str, kind: str = "info") -> str:
    """One line that says what is missing or what to do next; `kind`: info, good or bad."""
    return f'<p class="m3-hint m3-{kind}" role="status">{escape(text)}</p>'


def intro(text: str) -> str:
    """What a tab does and what to expect, in one line."""
    return f'<p class="m3-intro">{escape(text)}</p>'


# ---------------------------------------------------------------- photos


def photo_cards(photos: Sequence[Photo]) -> str:
    """One card a photo: crop, verdict, camera in words, warnings or the reason of a refusal."""
    if not photos:
        return (
            '<div class="m3-cards m3-empty"><p>Your crops will appear here, each with its verdict.</p></div>'
        )
    return f'<ul class="m3-cards" aria-label="Photos">{"".join(map(_card, photos))}</ul>'


def _card(photo: Photo) -> str:
    face, name = photo.face, escape(photo.name)
    if face.refused is not None:
        state, verdict, notes = "bad", "Refused", [face.refused]
        picture = face.thumbnail if face.thumbnail is not None else face.image
    else:
        state, verdict = ("warn", "Usable") if face.warnings else ("good", "Good")
        notes, picture = list(face.warnings), face.image
    image = (
        f'<img src="{data_uri(picture, side=224)}" alt="{name}" width="224" height="224">'
        if picture is not None
        else '<span class="m3-noimage" aria-hidden="true">?</span>'
    )
    camera = "" if face.refused is not None else f'<p class="m3-camera">{camera_words(face)}</p>'
    return (
        f'<li class="m3-card m3-{state}"><div class="m3-crop">{image}</div>'
        f'<div class="m3-text"><p class="m3-verdict">{verdict}</p>'
        f'<p class="m3-name" title="{name}">{name}</p>{camera}'
        + "".join(f'<p class="m3-note">{escape(note)}</p>' for note in notes)
        + f'</div><button type="button" class="m3-remove" data-event="remove" data-id="{photo.id}" '
        f'aria-label="Remove {name}">&times;</button></li>'
    )


def camera_words(face: Any) -> str:
    """How the head is turned, in words: "turned 12° to its right, 3° down"."""
    yaw, pitch = (round(value) for value in angles(face))
    # A camera on the person's left (yaw > 0) sees a head that is turned to its own right.
    words = [f"{abs(yaw)}° to its {'right' if yaw > 0 else 'left'}"] if abs(yaw) > 2 else []
    words += [f"{abs(pitch)}° {'down' if pitch > 0 else 'up'}"] if abs(pitch) > 2 else []
    return "head turned " + ", ".join(words) if words else "looks straight into the camera"


def people(examples: Iterable[Example], chosen: str | None = None) -> str:
    """The example people as buttons."""
    buttons = "".join(
        f'<button type="button" class="m3-person" data-event="pick" data-id="{escape(person.name)}" '
        f'aria-pressed="{"true" if person.name == chosen else "false"}">'
        f'<img src="{thumbnail(person.photos[0])}" alt="" width="96" height="96">'
        f"<span>{escape(person.title)}</span></button>"
        for person in examples
    )
    if not buttons:
        return ""
    return (
        '<p class="m3-label">Or try an example person (rendered, nobody real), in place of your photos</p>'
        f'<div class="m3-people" role="group" aria-label="Example people">{buttons}</div>'
    )


def prior_note(title: str, about: str, more: Iterable[str] = ()) -> str:
    """What to know about a prior before it is used: its licence, its download, how it takes photos."""
    sentences = "".join(f"<br>{escape(sentence)}" for sentence in more if sentence)
    return f'<p class="m3-hint m3-info m3-prior" role="status">Prior: {escape(title)}. {escape(about)}{sentences}</p>'


def research_data(prior: str) -> str:
    """For the prior of real people: where the papers' own photos are, as text; nothing is fetched."""
    if prior != "ffhq":
        return ""
    return (
        '<p class="m3-label">The people of the papers (research data, not yours)</p>'
        f'<p class="m3-note">My3DGen and MyStyle measured with photos of nine public figures: '
        f"{escape(', '.join(CELEBRITIES))}. They are published as the images-of-celebs repository on GitHub, "
        "FFHQ-aligned, as archives on Google Drive. They do not come with this app and it never fetches them. The "
        "consent box is not for them: whoever has them from their source, under its terms, runs them on a machine "
        "of their own, from Python or the command line.</p>"
    )


def held_out(person: Example | None) -> str:
    """The held-out photos of an example person as buttons."""
    if person is None or not person.tests:
        return ""
    buttons = "".join(
        f'<button type="button" class="m3-person" data-event="pick" data-id="{index}">'
        f'<img src="{thumbnail(path)}" alt="Held-out photo {index + 1}" width="96" height="96"></button>'
        for index, path in enumerate(person.tests)
    )
    return (
        f'<p class="m3-note">Photos of {escape(person.title)} that the model has not seen:</p>'
        f'<div class="m3-people" role="group" aria-label="Held-out example photos">{buttons}</div>'
    )


def anchors(model: Model | None) -> str:
    """The photos a model was made from, numbered as its anchors are; nothing where they are not known."""
    if model is None or not model.faces:
        return ""
    pictures = [face.image for face in model.faces]
    mirrored = len(model.adapter.anchors.ws) - len(pictures)
    pictures += [picture[:, ::-1] for picture in pictures[:mirrored]] if mirrored > 0 else []
    figures = "".join(
        f'<figure><img src="{data_uri(np.ascontiguousarray(picture), side=96)}" alt="Photo {number}">'
        f"<figcaption>{number}</figcaption></figure>"
        for number, picture in enumerate(pictures, 1)
    )
    return f'<div class="m3-anchors" tabindex="0" role="group" aria-label="Photos by number">{figures}</div>'


# ---------------------------------------------------------------- progress


@dataclass
class Running:
    """A fit as the page sees it: the last report, the last preview and the losses so far."""

    report: Progress | None = None
    preview: str = ""
    losses: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    curves: bool = True  # whether there is a preview and a loss to show

    def add(self, report: Progress) -> None:
        self.report = report
        if report.preview is not None:
            self.preview = data_uri(report.preview, side=384)
        if report.loss is not None and np.isfinite(report.loss):
            curve, loss = self.losses.setdefault(report.stage, []), float(report.loss)
            # A jump means that something else is measured from here on (the full resolution instead of a
            # coarse one): as one curve it would look as if all had gone wrong.
            if curve and loss > JUMP * curve[-1][1]:
                curve.clear()
            curve.append((report.step, loss))

    def html(self) -> str:
        """The panel: preview, stage, bar, seconds left, loss curve. Its size never changes."""
        report, curve = self.report, self.curve() if self.curves else None
        if report is None:
            return fit_panel("Starting: loading the pretrained model …", 0.0, "", self.preview, curve)
        title = stage_words(report.stage)
        share = report.step / max(report.steps, 1)
        # The first steps are slow (everything is loaded and warmed up), so their estimate is no use.
        known = report.seconds_left is not None and report.step >= min(4, report.steps)
        left = f" · {duration(report.seconds_left)} left of this part" if known else ""
        return fit_panel(title, share, f"step {report.step} of {report.steps}{left}", self.preview, curve)

    def curve(self) -> str:
        """The loss of the stage that runs (or ran last)."""
        if self.report is None:
            return ""
        return loss_curve(self.losses.get(self.report.stage, []), self.report.steps)


def stage_words(stage: str) -> str:
    """A stage in words; tasks put the model's name in front ("pretrained: project"), and Compare the task's."""
    *task, step = stage.split(": ")
    model = task.pop() if task else ""
    words = f"{model} model: {TASK_STAGES.get(step, step)}" if model else STAGES.get(step, step)
    return " · ".join(part[:1].upper() + part[1:] for part in (*task, words))


def fit_panel(
    title: str, share: float, detail: str, preview: str, curve: str | None, kind: str = "m3-fit"
) -> str:
    """A progress panel; `share` is from 0 to 1. Where `curve` is None there is neither curve nor preview.

    kind: its CSS classes.
    """
    percent = round(100 * min(max(share, 0.0), 1.0))
    picture = (
        f'<img src="{preview}" alt="Live preview">' if preview else '<span class="m3-noimage">preview</span>'
    )
    picture = "" if curve is None else f'<div class="m3-preview">{picture}</div>'
    curve = "" if curve is None else curve or loss_curve([], 1)
    return (
        f'<div class="{kind}">{picture}<div class="m3-run">'
        f'<p class="m3-stage" role="status">{escape(title)}</p>'
        f'<div class="m3-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}" aria-label="{escape(title)}"><div style="width:{percent}%"></div></div>'
        f'<p class="m3-detail">{escape(detail) or "&nbsp;"}</p>{curve}</div></div>'
    )


def not_started(curve: str | None = "") -> str:
    """The panel before anything began; on a phone it takes less room."""
    return fit_panel("Not started", 0.0, "", "", curve, "m3-fit m3-idle")


def duration(seconds: float) -> str:
    """Seconds in words."""
    seconds = max(0, round(seconds))
    return f"{seconds} s" if seconds < 90 else f"{seconds // 60} min {seconds % 60:02d} s"


def loss_curve(points: Sequence[tuple[int, float]], steps: int) -> str:
    """The loss over the steps as a small SVG (logarithmic height)."""
    width, height = 320, 96
    label = "Loss"
    path = ""
    if len(points) > 1:
        values = np.log(np.maximum([loss for _, loss in points], 1e-9))
        low, high = float(values.min()), float(values.max())
        x = [width * step / max(steps, 1) for step, _ in points]
        y = [4 + (height - 8) * (high - value) / max(high - low, 1e-6) for value in values]
        path = "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
        label = f"Loss, from {points[0][1]:.3g} to {points[-1][1]:.3g}"
    return (
        f'<figure class="m3-curve"><svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}"><path d="{path}"/></svg><figcaption>{label}</figcaption></figure>'
    )
