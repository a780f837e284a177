"""What the page and the API do, as plain functions of a session. No Gradio in here."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from my3dgen import layout
from my3dgen.errors import MOST, My3DGenError, whole
from my3dgen.progress import Progress, ProgressCallback
from my3dgen.studio import compute, examples, photo_set, priors
from my3dgen.studio.compute import FitOptions
from my3dgen.studio.jobs import GONE, digest, reports, running
from my3dgen.studio.registry import Registry
from my3dgen.studio.session import Model, Photo, Session

REGISTRY = Registry()
REGISTRY.on_delete = compute.forget

MOST_PHOTOS = 50
MOST_RANK = 16
MOST_STEPS = 5000
TOO_MANY = "{} photos are too many; at most {} help, so choose the best ones."
NO_CONSENT = "Tick the consent box first: photos are read only if the person in them agrees."
NO_PHOTOS = "There are no usable photos yet: add some in Selfies, or pick an example person."
NO_MODEL = "There is no personalized model yet: make one in Personalize, or load an adapter file."


# ---------------------------------------------------------------- photos


def add_photos(
    session: Session,
    photos: Sequence[str | bytes],
    consent: bool,
    replace_all: bool = False,
    progress: ProgressCallback | None = None,
    prior: str = "",
) -> int:
    """Read photos (uploaded files, or a file's bytes) in place of what the session has, or added to it.

    prior: says how they are read, and is the chosen one from then on; empty: the one that was chosen last. Returns
    how many of them are usable. With `replace_all`, photos of which none is usable raise My3DGenError and leave the
    session as it was.
    """
    REGISTRY.owns_uploads(session, [photo for photo in photos if isinstance(photo, str)])
    if consent is not True:
        raise My3DGenError(NO_CONSENT)
    if not photos:
        raise My3DGenError("No photo was sent; choose 5 to 50 pictures of one person.")
    there = 0
    if not (replace_all or session.example):  # a browser sends what it sent before along with what is new
        known, there = {photo.original for photo in session.photos}, len(session.photos)
        photos = [photo for photo in photos if photo not in known]
        if not photos:
            return 0
    if there + len(photos) > MOST_PHOTOS:
        raise My3DGenError(TOO_MANY.format(there + len(photos), MOST_PHOTOS))
    chosen = priors.checked(prior or session.prior)
    kind, _ = compute.kind_of(chosen)
    session.picked = None  # an example person who was picked before and is still being read comes too late
    with session.lock:
        taken, session.taken = session.taken, session.taken + sum(isinstance(each, bytes) for each in photos)
    new = photo_set.of_faces(compute.prepare(photos, progress, kind), photos, kind, taken)
    if session.agreed is False:
        raise My3DGenError("The consent was taken back while the photos were read, so none of them is kept.")
    usable = [photo for photo in new if photo.face.refused is None]
    if replace_all and not usable:
        raise My3DGenError(photo_set.refusals(new))
    with session.lock:
        if session.picked is not None:  # picked since: the newest wins
            raise My3DGenError("An example person was chosen meanwhile, so these photos were not added.")
        keep = [] if replace_all or session.example else session.photos
        known = {photo.digest for photo in keep if photo.digest}
        refused = {photo.original for photo in keep if not photo.digest}
        fresh = [each for each in new if each.digest not in known and each.original not in refused]
        together = keep + fresh
        if len(together) > MOST_PHOTOS:  # others were read meanwhile
            raise My3DGenError(TOO_MANY.format(len(together), MOST_PHOTOS))
        if session.example:
            session.drop_example_photo()
        session.photos, session.example = photo_set.compared(together) if keep else together, None
        if prior:
            session.prior = chosen
    return len(usable)


def load_example(session: Session, name: str, progress: ProgressCallback | None = None) -> None:
    """Put an example person's photos in place of the session's (no consent needed: nobody is real)."""
    person = examples.named(name)
    session.picked = mine = object()
    photos = photo_set.of_faces(_example_faces(person, progress), person.photos, "person")
    with session.lock:
        if session.picked is not mine:  # another one was picked meanwhile, and may have been there first
            return
        if session.example != person.name:
            session.drop_example_photo()
        session.photos, session.example = photos, person.name
    if person.adapter is not None:
        _keep_ready(session, person, photos)


def _keep_ready(session: Session, person: examples.Example, photos: list[Photo]) -> None:
    """The adapter that comes with an example person, as the model that personalizing would give.

    Where the prior has been replaced since it was made, the visitor personalizes as everybody does. Nothing is kept
    where the session's photos are others than these by now.
    """
    import my3dgen

    adapter = my3dgen.load_adapter(person.adapter)
    prior = priors.of_adapter(adapter.prior_name)
    if adapter.prior_sha256 != compute.prior(prior).sha256:
        return
    options = fit_options(prior, adapter.rank, None, 0, False)
    usable = [photo for photo in photos if photo.face.refused is None]
    key = digest([photo.digest for photo in usable], vars(options))
    label = f"{fit_label(options, person.name, len(usable), False)} · made beforehand"
    faces = tuple(photo.face for photo in usable)
    with session.lock:
        if session.photos is not photos:  # another person was picked meanwhile, or photos came or went
            return
        for model in session.models.values():
            if model.key == key:
                session.current = model.id
                return
        figures = person.fitted | {"stopped": False}
        _keep(session, adapter, prior, label, key, faces, figures, person.name)


_faces_of_examples: dict[str, list[Any]] = {}


def _example_faces(person: examples.Example, progress: ProgressCallback | None) -> list[Any]:
    """An example person's faces, read once for everybody: whoever asked first may leave, but does not stop it."""

    def report(each: Progress) -> None:
        if progress is not None:
            progress(each)  # and what it answers is not passed on

    if person.name not in _faces_of_examples:
        _faces_of_examples[person.name] = compute.prepare(person.photos, report)
    return _faces_of_examples[person.name]


def remove_photo(session: Session, photo_id: Any) -> None:
    """Take one photo out; an unknown id (a second click) changes nothing."""
    with session.lock:
        session.photos = [photo for photo in session.photos if photo.id != photo_id]


# ---------------------------------------------------------------- personalization


def fit_options(
    prior: str | None, rank: float, steps: float | None, seed: float, symmetry: bool
) -> FitOptions:
    """Check what a client sent."""
    return FitOptions(
        prior=priors.checked(prior),
        rank=whole("rank", rank, 1, MOST_RANK),
        steps=whole("steps", steps or 0, 0, MOST_STEPS) or None,
        seed=whole("seed", seed, 0, MOST),
        symmetry=symmetry is True,
    )


def fit(session: Session, options: FitOptions) -> Iterator[Progress | Model]:
    """Personalize the session's photos; yields reports and at last the model, which becomes the chosen one.

    Photos that were read for another kind of prior are read anew first. The same photos and options give the model
    that is already there, at once.
    """
    session.prior = options.prior
    with running(session, "fit") as stop_file:
        yield from photo_set.read_again(session, stop_file)
        photos, person = session.accepted(), session.example
        if not photos:
            raise My3DGenError(NO_PHOTOS)
        digests = [photo.digest for photo in photos]
        key, projection = digest(digests, vars(options)), digest(digests, options.prior)
        for model in list(session.models.values()):
            if model.key == key:
                session.current = model.id
                yield model
                return
        faces = [photo.face for photo in photos]
        stream = compute.fit(options, faces, session.anchors.get(projection), stop_file)
        result = yield from reports(session, stream)
    if result.adapter is None:
        raise My3DGenError("Stopped before the personalization began, so there is nothing to keep.")
    session.remember_anchors(projection, result.anchors)  # whole: without all of them there is no adapter
    label = fit_label(options, person, len(faces), result.stopped)
    figures = {
        "seconds": {name: round(value, 1) for name, value in result.seconds.items()},
        "id_sim": {name: round(value, 4) for name, value in result.identity.items()},
        "stopped": result.stopped,
    }
    key = "" if result.stopped else key  # a stopped fit is no answer to the same question asked again
    yield _keep(session, result.adapter, options.prior, label, key, tuple(faces), figures)


def fit_label(options: FitOptions, person: str | None, photos: int, stopped: bool) -> str:
    """What the chooser calls a model."""
    words = [examples.named(person).title] if person else []
    words += [options.prior, f"{photos} photo{'s' if photos != 1 else ''}", f"rank {options.rank}"]
    words += [f"{options.steps} steps"] if options.steps else []
    words += [f"seed {options.seed}"] if options.seed else []
    words += ["symmetry"] if options.symmetry else []
    words += ["stopped early"] if stopped else []
    return " · ".join(words)


def load_adapter(session: Session, path: str) -> Model:
    """Add an adapter file to the session's models and choose it."""
    REGISTRY.owns_uploads(session, filter(None, [path]))
    adapter, prior = _read_adapter(session, path)
    with session.lock:
        uploaded = sum(not model.faces for model in session.models.values())
    label = f"{prior} · rank {adapter.rank} · uploaded file" + (f" {uploaded + 1}" if uploaded else "")
    return _keep(session, adapter, prior, label)


def model_for(session: Session, path: str | None) -> Model:
    """The model a task is asked to use: an adapter file if one came with the call, else the chosen one."""
    if path:
        # each time: sent again, it is a new file in the old one's place
        REGISTRY.owns_uploads(session, [path])
        model = session.lent.get(path)
        if model is None:
            adapter, prior = _read_adapter(session, path)
            model = Model(digest(path), "", "", adapter, prior, path, (), {})
        compute.forget([id(old.adapter) for old in session.remember_lent(path, model)])
        return model
    model = session.model()
    if model is None:
        raise My3DGenError(NO_MODEL)
    return model


def model_asked(session: Session, job: str) -> Model:
    """The model that was chosen when a job was asked for (`jobs.wait`), else the one that is chosen now."""
    asked = session.asked.get(job)
    if asked is None:
        return model_for(session, None)
    if asked not in session.models:
        raise My3DGenError(
            "The model that was chosen for this is gone; choose one in Personalize and start again."
        )
    return session.models[asked]


def choose(session: Session, model_id: Any) -> None:
    """Make one of the session's models the chosen one."""
    if model_id in session.models:
        session.current = model_id


def _read_adapter(session: Session, path: str) -> tuple[Any, str]:
    """An adapter file and the name of its prior, which is downloaded only for who chose it: its licence was shown then.

    What does not fit its prior is refused: it would be kept, whatever its size, and be of no use.
    """
    import my3dgen

    if not path:
        raise My3DGenError("No adapter file was sent; choose the .safetensors that personalizing gave you.")
    adapter = my3dgen.load_adapter(path)
    prior = _prior_of(adapter)
    if not priors.installed(prior) and session.prior != prior:
        raise My3DGenError(
            f"The adapter was made for {prior!r}, whose file this server does not have; choose that prior in Personalize "
            "first, which says what it asks of you, and load the adapter again: it is then downloaded."
        )
    compute.prior(prior).personalized(adapter)  # not `compute.personalized`, which keeps what it makes
    return adapter, prior


def _prior_of(adapter: Any) -> str:
    """Which offered prior an adapter was made for: this server's own if its hash says so, whatever name that file gives
    itself, else the one of its name."""
    if priors.has_own() and compute.prior(priors.OWN).sha256 == adapter.prior_sha256:
        return priors.OWN
    return priors.of_adapter(adapter.prior_name)


def _keep(
    session: Session,
    adapter: Any,
    prior: str,
    label: str,
    key: str = "",
    faces: tuple[Any, ...] = (),
    figures: dict[str, Any] | None = None,
    example: str | None = None,
) -> Model:
    """Add a model to the session and choose it; `figures` belong to its report, `example` is the person it came
    with."""
    if session.deleted:
        raise My3DGenError(GONE)
    path = session.new_path(layout.ADAPTER)
    adapter.save(path)
    report = {
        "prior": prior,
        "rank": adapter.rank,
        "bytes": Path(path).stat().st_size,
        "trainable_parameters": int(adapter.trainable_parameters),
        "anchors": len(adapter.anchors.ws),
    } | (figures or {})
    model = Model(secrets.token_hex(8), label, key, adapter, prior, path, faces, report, example)
    compute.forget([id(old.adapter) for old in session.keep_model(model)])
    return model
