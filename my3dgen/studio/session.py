"""What one visitor has on the server: photos, models, results, files. `registry` knows whose it is."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from my3dgen.errors import My3DGenError

QUEUE_SECONDS = 3 * 3600.0  # so long a session is kept for a job that waits for its turn
VIEW_SETS = 8  # rendered view grids a session keeps
RESULTS = 12  # results of tasks a session keeps
RESULT_BYTES = (
    256_000_000  # and so much of them, whatever the prior's pictures weigh; the newest is always kept
)
FACES = 6  # prepared task photos a session keeps
MODELS = 24  # models a session keeps
LENT = 8  # adapters that came with calls and a session keeps; as many as `compute` keeps ready
UPLOADS = 128  # files that a session sent and keeps besides its photos: more than calls can be waiting with
GONE = "Your data was deleted while this was running, so there is no result."


@dataclass(frozen=True)
class Photo:
    """One photo of a session as the page knows it."""

    id: str  # random, so that a page can name it without naming a path
    name: str  # the file's own name, for the visitor's eyes only
    face: Any  # my3dgen's Face, refused or not
    digest: str  # of crop and camera: the same photo gives the same digest
    original: str | bytes  # the file it was read from, or its content: a prior of another kind reads it anew
    kind: str = "person"  # what it was read as; a refused face does not say


@dataclass(frozen=True)
class Model:
    """One adapter of a session with what is worth showing of it."""

    id: str  # random
    label: str  # for the chooser
    key: str  # photos and options it was made from; "" for an uploaded one
    adapter: Any  # my3dgen's Adapter
    prior: str  # name of the prior it belongs to
    path: str  # the file to download
    faces: tuple[Any, ...]  # the photos it was made from; none for an uploaded one
    report: dict[str, Any]  # the JSON of /personalize
    example: str | None = None  # name of the example person whom it came with
    full: Any | None = (
        None  # a prior with every weight tuned to the same photos, where a task is to show it as well
    )


@dataclass
class Session:
    """Everything one visitor has on the server."""

    folder: Path
    photos: list[Photo] = field(default_factory=list)
    example: str | None = None  # name of the example person, if the photos are theirs
    prior: str = ""  # the prior chosen last, which says how photos are read; "": the default
    anchors: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # projections by photos and prior
    models: OrderedDict[str, Model] = field(default_factory=OrderedDict)
    current: str | None = None  # id of the chosen model
    lent: OrderedDict[str, Model] = field(default_factory=OrderedDict)  # models that came with calls, by path
    views: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # view grids by model and photo
    full: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # fully tuned priors by model
    newest: dict[str, list[set[str]]] = field(default_factory=dict)  # folders of each purpose's newest files
    # files the visitor sent, those last sent or used at the end
    uploads: OrderedDict[str, None] = field(default_factory=OrderedDict)
    photo: str | None = None  # the photo that was last chosen for a task, a file of this session
    second: str | None = None  # the held-out photo that was last chosen as a task's second one
    picked: object = None  # the newest request for an example person; older ones change nothing
    prepared: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # task photos' faces by content
    results: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # task outcomes by what was asked
    editing: Any = None  # the fit that the attribute sliders move, with its model's id
    edit_moved: object = None  # the newest move of the attribute sliders
    edit_shown: tuple[Any, ...] = ()  # attribute, strength and policy of the edited faces on the page
    edit_hidden: str = ""  # why the edited faces were taken off the page; empty: they are on it
    showing: dict[str, str] = field(default_factory=dict)  # task -> whose results its tab shows
    looking: object = None  # the newest request for views; older ones give up
    looked_at: str = ""  # id of the model whose views were asked for last
    running: dict[str, str] = field(default_factory=dict)  # job -> path of the file that stops it
    queued: dict[str, float] = field(
        default_factory=dict
    )  # jobs that were asked for and have not ended, and since when
    asked: dict[str, str | None] = field(default_factory=dict)  # of these, the model that was chosen then
    stop_early: set[str] = field(default_factory=set)  # jobs that were stopped while they waited to begin
    # what the consent box was last set to: once cleared, what is being read or waits to be is not kept; None: it was not
    # touched in this session, so what comes along with the photos says it
    agreed: bool | None = None
    taken: int = 0  # photos the camera took: their names count on
    waiting: int = 0  # photos that were dropped before the consent box was ticked
    shown: tuple[Any, ...] | None = None  # photo cards the page shows already (they are large)
    numbered: dict[str, str | None] = field(
        default_factory=dict
    )  # element -> the model whose photos it counts
    used: float = field(default_factory=time.monotonic)
    left: float | None = None  # when its page was closed or reloaded: what still runs for it is no use
    deleted: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def holds(self, path: str) -> bool:
        """Whether a file was made here, as copies of an example person's held-out photos are; uploads lie elsewhere."""
        return self.folder in Path(path).parents

    def note_upload(self, path: str) -> None:
        """A file the visitor sent, or uses again."""
        self.uploads[path] = None
        self.uploads.move_to_end(path)

    def old_uploads(self) -> list[str]:
        """What was sent so long ago that it may go: all but the newest, and what is still pointed to."""
        with self.lock:
            used = {self.photo, self.second, *self.lent}
            used |= {photo.original for photo in self.photos if isinstance(photo.original, str)}
            return [path for path in tuple(self.uploads)[:-UPLOADS] if path not in used]

    def drop_example_photo(self) -> None:
        """Another person came: the photos for tasks go that are held-out ones of an example person."""
        self.second = None
        if self.photo is not None and self.holds(self.photo):
            self.photo = None

    @property
    def filled(self) -> bool:
        """Whether anything would be lost with it."""
        return self.holds_data or self.waits()

    @property
    def holds_data(self) -> bool:
        """Whether it has, or is making, something of a person."""
        return bool(self.photos or self.models or self.running)

    def waits(self, job: str | None = None) -> bool:
        """Whether a job (None: any) of this session waits for its turn: that is use, too."""
        oldest = time.monotonic() - QUEUE_SECONDS
        return any(since > oldest for each, since in tuple(self.queued.items()) if job in (None, each))

    def accepted(self) -> list[Photo]:
        """The photos that are good enough to work with."""
        return [photo for photo in self.photos if photo.face.refused is None]

    def model(self) -> Model | None:
        """The chosen model."""
        return self.models.get(self.current) if self.current else None

    def touch(self) -> None:
        """Somebody is here, or waits for something: keep the session, unless its page was left."""
        if self.left is None:
            self.used = time.monotonic()

    def new_path(self, name: str) -> str:
        """A path for a file to download, in a fresh folder whose name cannot be guessed.

        Raises `My3DGenError` once the session was deleted: nothing may be written after that.
        """
        if self.deleted:
            raise My3DGenError(GONE)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir()
        return str(folder / name)

    def keep_newest(self, purpose: str, paths: Iterable[str], most: int = 1) -> None:
        """These files of `new_path` take the place of those before them: a slider would fill the disk.

        most: so many sets of them are kept; a browser may still be fetching the last but one.
        """
        with self.lock:
            kept = [*self.newest.get(purpose, []), {str(Path(path).parent) for path in paths}]
            self.newest[purpose] = kept[-most:]
        for folder in set().union(*kept[:-most]) - set().union(*kept[-most:]):
            shutil.rmtree(folder, ignore_errors=True)

    def keep_model(self, model: Model) -> list[Model]:
        """Add a model and choose it. Returns the oldest ones that had to go for it."""
        gone = []
        with self.lock:
            self.models[model.id] = model
            self.current = model.id
            while len(self.models) > MODELS:
                gone.append(self.models.popitem(last=False)[1])
        for old in gone:
            shutil.rmtree(Path(old.path).parent, ignore_errors=True)
        return gone

    def save_image(self, image: np.ndarray, name: str) -> str:
        """image: uint8 [H, W, 3] -> path of a PNG."""
        path = self.new_path(f"{name}.png")
        Image.fromarray(image).save(path)
        return path

    def save_newest(
        self, purpose: str, pictures: Iterable[tuple[str, np.ndarray]], most: int = 1
    ) -> list[str]:
        """Names and pictures uint8 [H, W, 3] -> paths of PNGs, which take the place of those before (`keep_newest`)."""
        paths = [self.save_image(picture, name) for name, picture in pictures]
        self.keep_newest(purpose, paths, most)
        return paths

    def forget(self) -> None:
        """Let go of everything that was kept; whoever still works for this session finds nothing."""
        with self.lock:
            self.photos, self.example, self.current = [], None, None
            self.photo = self.second = self.editing = self.looking = None
            self.prior = self.edit_hidden = ""
            stores = (
                self.anchors,
                self.models,
                self.lent,
                self.views,
                self.full,
                self.prepared,
                self.results,
            )
            for store in (*stores, self.newest, self.uploads, self.showing):
                store.clear()

    def remember_views(self, key: str, views: Any) -> None:
        """Keep a rendered grid; the oldest ones go."""
        self._remember(self.views, key, views, VIEW_SETS)

    def remember_face(self, key: str, face: Any) -> None:
        """Keep a prepared task photo; the oldest ones go."""
        self._remember(self.prepared, key, face, FACES)

    def remember_result(self, key: str, outcome: Any) -> None:
        """Keep what a task made; the oldest ones go."""
        with self.lock:
            self._remember(self.results, key, outcome, RESULTS)
            while len(self.results) > 1 and sum(each.bytes for each in self.results.values()) > RESULT_BYTES:
                self.results.popitem(last=False)

    def remember_anchors(self, key: str, anchors: Any) -> None:
        """Keep a projection, for the next model of the same photos; the oldest ones go."""
        self._remember(self.anchors, key, anchors, MODELS)

    def remember_full(self, key: str, prior: Any) -> None:
        """Keep a fully tuned prior: megabytes each, so only the newest."""
        self._remember(self.full, key, prior, 1)

    def remember_lent(self, path: str, model: Model) -> list[Model]:
        """Keep a model that came with a call, so that the next one finds it and deleting reaches it. Returns the oldest
        ones that had to go for it.

        Raises `My3DGenError` once the session was deleted: deleting could not reach it any more.
        """
        if self.deleted:
            raise My3DGenError(GONE)
        return self._remember(self.lent, path, model, LENT)

    def _remember(self, store: OrderedDict[str, Any], key: str, value: Any, most: int) -> list[Any]:
        with self.lock:
            if self.deleted:
                return []
            store[key] = value
            store.move_to_end(key)
            return [store.popitem(last=False)[1] for _ in range(len(store) - most)]
