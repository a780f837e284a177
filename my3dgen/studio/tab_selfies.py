"""Selfies: photos in, crops with their verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from my3dgen.progress import Progress, ProgressCallback
from my3dgen.studio import examples, inputs, panels, photo_set, service, stream
from my3dgen.studio.camera import camera, taken
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import LIGHT, QUIET, READ, Page, session_of
from my3dgen.studio.session import Session

INTRO = "Add 5 to 50 photos of one person: each is cropped and judged at once, about a second a photo."
CONSENT = "I am the person in these photos, or that person agreed to this."
START = "Tick the box and add photos, or pick an example person."
PRIVACY = (
    "Photos stay on this server, are used for nothing else, and are deleted some minutes after you close or reload "
    "this page, after an hour (on a full server five minutes) without use, or at once with the button at the bottom of the page."
)


def build(page: Page) -> None:
    """Lay the tab out and connect it."""
    gr.HTML(panels.intro(INTRO))
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            consent = gr.Checkbox(label=CONSENT, info=PRIVACY, elem_id="consent")
            drop = inputs.File(
                label="Photos (JPEG, PNG, WebP, HEIC)",
                file_count="multiple",
                file_types=["image", ".heic", ".heif"],
                height=170,
                elem_id="photos",
            )
            with gr.Accordion("Take photos with the camera", open=False):
                taking = camera("camera")
        with gr.Column(scale=2, min_width=300):
            people = gr.HTML(
                panels.people(examples.listed()),
                js_on_load=panels.PRESSES,
                apply_default_css=False,
                elem_id="examples",
            )
            page.research = gr.HTML("", elem_id="research-data")
    status = gr.HTML(panels.hint(START), elem_id="selfies-status")
    cards = gr.HTML(
        panels.photo_cards([]), js_on_load=panels.PRESSES, apply_default_css=False, elem_id="photo-cards"
    )
    onwards = gr.Button("Next: personalize", variant="primary", interactive=False, elem_id="to-personalize")

    # "multiple": photos dropped while others are being read are read too.
    options = {"trigger_mode": "multiple", **READ, **QUIET}
    # never queued: taking it back must not wait for the reading that it is to stop
    agreed = consent.input(_agree, consent, None, queue=False, trigger_mode="multiple", **QUIET)
    changed = (drop.upload, drop.delete, drop.clear, agreed.success)
    reading = [event(_read, [drop, consent], [status, drop], **options) for event in changed]
    # or the next drop would bring them again
    reading[0].failure(_emptied, None, drop, queue=False, **QUIET)
    reading += [taking.snap(_snap, consent, status, **options)]
    reading += [
        people.pick(_pick, None, status, **options),
        cards.remove(_remove, None, None, trigger_mode="multiple", **LIGHT, **QUIET),
    ]
    for event in reading:
        page.changed_by(event)
    page.go(onwards, "personalize")
    page.follow(cards, _cards)
    page.follow(people, lambda session: panels.people(examples.listed(), session.example))
    page.follow(status, _status)
    page.blank(drop)
    page.blank(consent, False)  # who comes next declares it anew
    page.follow(onwards, lambda session: gr.update(interactive=bool(session.accepted())))


def _cards(session: Session) -> Any:
    cards = tuple((photo.id, photo.face.warnings) for photo in session.photos)
    if cards == session.shown:
        return gr.skip()
    session.shown = cards
    return panels.photo_cards(session.photos)


def _status(session: Session) -> str:
    if session.waiting:
        count = f"{session.waiting} photo{'s are' if session.waiting > 1 else ' is'}"
        return panels.hint(f"{count} waiting: tick the consent box and reading starts.", "bad")
    if not session.photos:
        return panels.hint(START)
    usable, refused = len(session.accepted()), len(session.photos) - len(session.accepted())
    sentences = [f"{refused} of {len(session.photos)} photos refused: the card says why."] if refused else []
    sentences += photo_set.notes(session) or [f"{usable} usable photos: a good set."]
    text = " ".join(sentences)
    return panels.hint(text, "good" if usable else "bad")


@guarded
def _agree(consent: bool, request: gr.Request) -> None:
    """The box was ticked or cleared."""
    service.REGISTRY.agree(request.session_hash, consent is True)


def _consented(session: Session, consent: bool) -> bool:
    """Whether the visitor agrees: the box as it was when this was asked for, unless it was cleared since."""
    return consent is True and session.agreed is not False


@guarded
def _read(photos: list[str] | None, consent: bool, request: gr.Request) -> Iterator[Any]:
    """Photos were dropped (or taken back), or the box was ticked: read what is there, given consent."""
    session = session_of(request)
    session.waiting = 0 if _consented(session, consent) else len(photos or [])
    if session.waiting:
        service.REGISTRY.owns_uploads(session, photos)
    if session.waiting or not photos:
        yield gr.skip(), gr.skip()
        return
    for status in _reading(lambda progress: service.add_photos(session, photos, True, progress=progress)):
        yield status, gr.skip()
    yield gr.skip(), None


@guarded
def _emptied(request: gr.Request) -> None:
    """Reading failed, and the box is emptied: nothing waits for consent any more."""
    session_of(request).waiting = 0


@guarded
def _snap(consent: bool, event: gr.EventData, request: gr.Request) -> Iterator[Any]:
    """The camera took one."""
    session, photo = session_of(request), taken(event)
    given = _consented(session, consent)
    yield from _reading(lambda progress: service.add_photos(session, [photo], given, progress=progress))


def _reading(work: Callable[[ProgressCallback], Any]) -> Iterator[str]:
    """The status line while photos are read."""
    yield panels.hint("Reading …")
    for report in stream.run(work):
        if isinstance(report, Progress):
            yield panels.hint(f"Reading photo {report.step} of {report.steps} …")


@guarded
def _pick(event: gr.EventData, request: gr.Request) -> Iterator[Any]:
    """An example person."""
    session, name = session_of(request), event._data.get("id")
    session.waiting = 0
    yield from _reading(lambda progress: service.load_example(session, name, progress))


@guarded
def _remove(event: gr.EventData, request: gr.Request) -> None:
    """One photo out."""
    service.remove_photo(session_of(request), event._data.get("id"))
