"""Who owns what on the server: sessions, found by a secret that only the visitor's page knows.

The client chooses its session hash, so it is a password: it is never stored, shown, logged or used as a
name. What is kept is its keyed digest, and every folder has a random name of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from my3dgen.errors import My3DGenError

IDLE_SECONDS = 3600.0  # a session nobody touched for this long is deleted
LEFT_SECONDS = (
    300.0  # and one whose page was closed or reloaded after this long: no page can reach it any more
)
QUEUE_SECONDS = 3 * 3600.0  # so long a session is kept for a job that waits for its turn
SESSION_LIMIT = 64  # at most so many at once; beyond it empty ones go first, then the longest idle
LEFTOVER_SECONDS = 24 * 3600.0  # folders this old belong to no running server
SWEEP_SECONDS = 30.0  # how often expired sessions are looked for
VIEW_SETS = 8  # rendered view grids a session keeps
RESULTS = 12  # results of tasks a session keeps
FACES = 6  # prepared task photos a session keeps
MODELS = 24  # models a session keeps
LENT = 8  # adapters that came with calls and a session keeps; as many as `compute` keeps ready
ERASED_SECONDS = (
    600.0  # so long what was deleted is deleted again, as work that was under way may have written anew
)
log = logging.getLogger("my3dgen.studio")
GONE = "Your data was deleted while this was running, so there is no result."


def upload_root() -> Path:
    """The folder Gradio keeps uploads in and serves files from (only to who knows their full name)."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio").resolve()


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
    anchors: dict[str, Any] = field(default_factory=dict)  # projections by photos and prior
    models: OrderedDict[str, Model] = field(default_factory=OrderedDict)
    current: str | None = None  # id of the chosen model
    lent: OrderedDict[str, Model] = field(default_factory=OrderedDict)  # models that came with calls, by path
    views: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # view grids by model and photo
    full: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # fully tuned priors by model
    newest: dict[str, list[set[str]]] = field(default_factory=dict)  # folders of each purpose's newest files
    uploads: dict[str, int] = field(default_factory=dict)  # files the visitor sent, and their inodes
    photo: str | None = None  # the photo that was last chosen for a task, a file of this session
    prepared: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # task photos' faces by content
    results: OrderedDict[str, Any] = field(default_factory=OrderedDict)  # task outcomes by what was asked
    editing: Any = None  # the fit that the attribute sliders move, with its model's id
    edit_moved: object = None  # the newest move of the attribute sliders
    edit_hidden: str = ""  # why the edited faces were taken off the page; empty: they are on it
    showing: dict[str, str] = field(default_factory=dict)  # task -> whose results its tab shows
    looking: object = None  # the newest request for views; older ones give up
    running: dict[str, str] = field(default_factory=dict)  # job -> path of the file that stops it
    queued: dict[str, float] = field(default_factory=dict)  # jobs that wait for their turn, and since when
    stop_early: set[str] = field(default_factory=set)  # jobs that were stopped while they waited to begin
    agreed: bool = True  # false once the consent box was cleared: what is being read then is not kept
    waiting: int = 0  # photos that were dropped before the consent box was ticked
    shown: tuple[Any, ...] | None = None  # photo cards the page shows already (they are large)
    numbered: dict[str, str | None] = field(
        default_factory=dict
    )  # element -> the model whose photos it counts
    used: float = field(default_factory=time.monotonic)
    left: bool = False  # its page was closed or reloaded: what still runs for it is no use
    deleted: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def filled(self) -> bool:
        """Whether anything would be lost with it."""
        return bool(self.photos or self.models or self.running or self.waits())

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
        if not self.left:
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

    def remember_views(self, key: str, views: Any) -> None:
        """Keep a rendered grid; the oldest ones go."""
        self._remember(self.views, key, views, VIEW_SETS)

    def remember_face(self, key: str, face: Any) -> None:
        """Keep a prepared task photo; the oldest ones go."""
        self._remember(self.prepared, key, face, FACES)

    def remember_result(self, key: str, outcome: Any) -> None:
        """Keep what a task made; the oldest ones go."""
        self._remember(self.results, key, outcome, RESULTS)

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


class Registry:
    """All sessions of this server."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS, limit: int = SESSION_LIMIT):
        self.idle_seconds, self.limit = idle_seconds, limit
        # gets the adapters of who is gone, by `id`: nothing of a face may stay behind here
        self.on_delete: Callable[[list[int]], None] = lambda adapters: None
        self.on_sweep: Callable[[], None] = lambda: None  # after sessions went, and now and then
        self._erased: list[tuple[float, Path, list[int]]] = []  # when, the folder, the adapters
        self._pepper = secrets.token_bytes(32)
        self._sessions: dict[str, Session] = {}
        self._uploads: Counter[str] = Counter()  # the same photo may belong to two visitors
        self._lock = threading.RLock()
        self._sweeper: threading.Thread | None = None

    def get(self, secret: str | None) -> Session:
        """The session of this secret; without one, a new session that nobody else can reach."""
        key = self._key(secret) if secret else secrets.token_hex(32)
        with self._lock:
            self._start_sweeper()
            if key not in self._sessions:
                self._make_room()
                self._sessions[key] = Session(upload_root() / f"my3dgen-{secrets.token_hex(16)}")
            session = self._sessions[key]
        session.left = False
        session.touch()
        return session

    def knows(self, secret: str) -> bool:
        """Whether there is a session of this secret."""
        return self._key(secret) in self._sessions

    def left(self, secret: str | None) -> None:
        """The page of a session was closed or reloaded: what nobody can reach any more goes soon."""
        session = self._sessions.get(self._key(secret)) if secret else None
        if session is not None:
            session.left = True  # first, or a job's report would come between
            session.used = min(session.used, time.monotonic() - self.idle_seconds + LEFT_SECONDS)
            session.queued.clear()

    def delete(self, secret: str | None) -> bool:
        """Delete everything of this session. Returns whether there was anything."""
        with self._lock:
            session = self._sessions.pop(self._key(secret), None) if secret else None
        if session is None:
            return False
        there = session.filled or bool(session.uploads or session.lent or session.results or session.newest)
        self._erase(session)
        with _told("tidying up after a deletion"):
            self.on_sweep()
        return there

    def owns_uploads(self, session: Session, paths: Iterable[str]) -> None:
        """Note files a visitor sent, so that they go when the session goes.

        Raises `My3DGenError` once it was deleted: nobody would ever let go of them.
        """
        with self._lock:
            if session.deleted:
                raise My3DGenError(GONE)
            for path in set(paths):
                if not _is_upload(path):
                    continue
                self._uploads[path] += path not in session.uploads
                session.uploads[path] = Path(path).stat().st_ino

    def sweep(self) -> None:
        """Delete sessions idle for too long; keep the files of the others from ageing out of the cache."""
        oldest = time.monotonic() - self.idle_seconds
        with self._lock:
            expired = [key for key, each in self._sessions.items() if each.used < oldest and not each.waits()]
            gone = [self._sessions.pop(key) for key in expired]
            alive = list(self._sessions.values())
        for session in gone:
            with _told("deleting an expired session"):
                self._erase(session)
        self._erase_again()
        with _told("tidying up after a sweep"):
            self.on_sweep()
        for session in alive:
            with suppress(OSError):  # a file went while we looked; the next sweep comes soon
                own = session.folder.rglob("*") if session.folder.exists() else ()
                for path in [*own, *map(Path, tuple(session.uploads))]:
                    if path.is_file():
                        os.utime(path)

    def tidy(self) -> None:
        """Remove what a server that was killed left behind (called before the first visitor)."""
        for folder in upload_root().glob("my3dgen-*"):
            if time.time() - folder.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Delete every session (the server stops)."""
        with self._lock:
            gone, self._sessions = list(self._sessions.values()), {}
        for session in gone:
            self._erase(session)

    def _key(self, secret: str) -> str:
        # whatever a client sends as its hash, half a surrogate pair too
        return hmac.new(self._pepper, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def _make_room(self) -> None:
        while len(self._sessions) >= self.limit:
            idlest = min(
                self._sessions, key=lambda key: (self._sessions[key].filled, self._sessions[key].used)
            )
            self._erase(self._sessions.pop(idlest))

    def _erase(self, session: Session) -> None:
        with session.lock:  # what is being kept at this moment is kept before, or not at all
            session.deleted = True  # a running fit sees this and stops
            adapters = [id(model.adapter) for model in (*session.models.values(), *session.lent.values())]
        self.on_delete(adapters)
        with self._lock:
            self._erased.append((time.monotonic(), session.folder, adapters))
            self._uploads.subtract(session.uploads.keys())
            unused = [path for path in session.uploads if self._uploads[path] <= 0]
            for path in unused:
                del self._uploads[path]
        for path in unused:
            _remove_upload(path, session.uploads[path])
        shutil.rmtree(session.folder, ignore_errors=True)
        with session.lock:
            session.photos, session.example, session.current = [], None, None
            session.photo = session.editing = None
            session.prior = session.edit_hidden = ""
            session.looking = None
            stores = (
                session.anchors,
                session.models,
                session.full,
                session.views,
                session.uploads,
                session.newest,
            )
            for store in (*stores, session.lent, session.prepared, session.results, session.showing):
                store.clear()

    def _erase_again(self) -> None:
        """What was deleted in the last minutes: a job that had not yet noticed may have put something back."""
        now = time.monotonic()
        with self._lock:
            self._erased = [each for each in self._erased if now - each[0] < ERASED_SECONDS]
            erased = list(self._erased)
        for _, folder, adapters in erased:
            shutil.rmtree(folder, ignore_errors=True)
            self.on_delete(adapters)

    def _start_sweeper(self) -> None:
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep_forever, daemon=True)
            self._sweeper.start()

    def _sweep_forever(self) -> None:
        while True:
            time.sleep(min(SWEEP_SECONDS, self.idle_seconds))
            with _told("sweeping"):  # expiry must not end with one failure
                self.sweep()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """A failure is logged, by kind alone, and what comes next is done all the same."""
    try:
        yield
    except Exception as error:
        log.error("%s failed: %s", what, type(error).__name__)


def _is_upload(path: str) -> bool:
    """Whether this is a file Gradio stored for a visitor (and not, say, a photo of an example)."""
    return Path(path).is_file() and Path(path).resolve().is_relative_to(upload_root())


def _remove_upload(path: str, inode: int) -> None:
    """Remove a file unless it was sent anew: the same photo has the same path, and who sent it may be about to claim it."""
    file = Path(path)
    if _is_upload(path) and file.stat().st_ino == inode:
        file.unlink(missing_ok=True)
        with suppress(OSError):  # only an empty folder goes, and Gradio may have been first
            file.parent.rmdir()
