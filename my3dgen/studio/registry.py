"""Who owns what on the server: sessions, found by a secret that only the visitor's page knows.

The client chooses its session hash, so it is a password: it is never stored, shown, logged or used as a
name. What is kept is its keyed digest, and every folder has a random name of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from my3dgen.errors import My3DGenError
from my3dgen.studio import folders
from my3dgen.studio.session import GONE, Session

IDLE_SECONDS = 3600.0  # a session nobody touched for this long is deleted
LEFT_SECONDS = (
    300.0  # and one whose page was closed or reloaded after this long: no page can reach it any more
)
LATE_SECONDS = 10.0  # so long after it was closed, what a page asks is no sign that it is back
# at most so many at once; beyond it empty ones go first, then the longest idle without a job, but none that was used in ...
SESSION_LIMIT = 64
SPARED_SECONDS = 300.0  # ... the last minutes: whoever comes then is told that there is no room
FULL = "There is no room for another visitor on this server just now; come back in some minutes."
SESSION_FOLDER = re.compile(r"my3dgen-[0-9a-f]{32}")  # as `get` names them
# uploads go that no call came for in this time; calls may wait long for their turn
UNCLAIMED_SECONDS = 2 * 3600.0
UPLOAD_PATTERN = "[0-9a-f]" * 64 + "/*"  # where Gradio keeps what was sent, by its content
LEFTOVER_SECONDS = 24 * 3600.0  # folders this old belong to no running server
SWEEP_SECONDS = 30.0  # how often expired sessions are looked for
ERASED_SECONDS = (
    600.0  # so long what was deleted is deleted again, as work that was under way may have written anew
)
log = logging.getLogger("my3dgen.studio")


def upload_root() -> Path:
    """The folder Gradio keeps uploads in and serves files from (only to who knows their full name)."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio").resolve()


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
        self._parted: dict[str, float] = {}  # keys of sessions that their visitors deleted, and when
        self._inodes: dict[str, int] = {}  # what lay there when somebody last said that it is theirs
        self._lock = threading.RLock()
        self._sweeper: threading.Thread | None = None

    def get(self, secret: str | None) -> Session:
        """The session of this secret; without one, a new session that nobody else can reach.

        Raises `My3DGenError` where it is new and there is no room for it.
        """
        key = self._key(secret) if secret else secrets.token_hex(32)
        with self._lock:
            self._start_sweeper()
            gone = []
            if key not in self._sessions:
                gone = self._make_room()
                self._sessions[key] = Session(upload_root() / f"my3dgen-{secrets.token_hex(16)}")
                if key in self._parted:  # photos that were still on their way carry the consent of before
                    self._sessions[key].agreed = False
            session = self._sessions[key]
        for each in gone:  # its files take a while; nobody else waits for that
            self._erase(each)
        # a closed page's last questions may still be under way; later ones come from a page that was brought back
        if session.left is not None and time.monotonic() - session.left > LATE_SECONDS:
            session.left = None
        session.touch()
        return session

    def knows(self, secret: str) -> bool:
        """Whether there is a session of this secret."""
        return self._key(secret) in self._sessions

    def left(self, secret: str | None) -> None:
        """The page of a session was closed or reloaded: what nobody can reach any more goes soon."""
        session = self._sessions.get(self._key(secret)) if secret else None
        if session is not None:
            session.left = time.monotonic()  # first, or a job's report would come between
            session.used = min(session.used, time.monotonic() - self.idle_seconds + LEFT_SECONDS)
            session.queued.clear()

    def delete(self, secret: str | None) -> bool:
        """Delete everything of this session. Returns whether there was anything."""
        with self._lock:
            session = self._sessions.pop(self._key(secret), None) if secret else None
            if session is not None:
                self._parted[self._key(secret)] = time.monotonic()
        if session is None:
            return False
        there = session.filled or bool(session.uploads or session.lent or session.results or session.newest)
        self._erase(session)
        with _told("tidying up after a deletion"):
            self.on_sweep()
        return there

    def agree(self, secret: str | None, consent: bool) -> None:
        """The visitor said whether they consent to reading what they send, which holds until they say otherwise."""
        session = self.get(secret)
        with self._lock:
            session.agreed = consent
            if consent and secret:
                self._parted.pop(self._key(secret), None)

    def owns_uploads(self, session: Session, paths: Iterable[str]) -> None:
        """Note files a visitor sent, so that they go when the session goes, or when many newer ones came.

        Raises `My3DGenError` once it was deleted: nobody would ever let go of them.
        """
        with self._lock:
            if session.deleted:
                raise My3DGenError(GONE)
            for path in dict.fromkeys(paths):
                if not _is_upload(path):
                    continue
                self._uploads[path] += path not in session.uploads
                session.note_upload(path)
                self._inodes[path] = Path(path).stat().st_ino
        self._release(session, session.old_uploads())

    def sweep(self) -> None:
        """Delete sessions idle for too long; keep the files of the others from ageing out of the cache."""
        oldest = time.monotonic() - self.idle_seconds
        with self._lock:
            expired = [key for key, each in self._sessions.items() if each.used < oldest and not each.waits()]
            gone = [self._sessions.pop(key) for key in expired]
            alive = list(self._sessions.values())
            self._parted = {key: since for key, since in self._parted.items() if since >= oldest}
        for session in gone:
            with _told("deleting an expired session"):
                self._erase(session)
        self._erase_again()
        with _told("looking for uploads that nobody claimed"):
            self._erase_unclaimed()
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
            # others may keep what they like in a folder that Gradio was told to use
            if (
                SESSION_FOLDER.fullmatch(folder.name)
                and time.time() - folder.stat().st_mtime > LEFTOVER_SECONDS
            ):
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

    def _make_room(self) -> list[Session]:
        """Take sessions out until another one has room. Returns those that are to be erased.

        Raises `My3DGenError` where all hold something that somebody uses: a newcomer, or somebody who makes up many
        of them, must not cost others their photos.
        """

        def worth(key: str) -> tuple[bool, bool, float]:
            session = self._sessions[key]
            # that a job waits is soon said, and costs who says it nothing
            return session.holds_data, bool(session.running or session.waits()), session.used

        gone = []
        while len(self._sessions) >= self.limit:
            least = min(self._sessions, key=worth)
            held, busy, used = worth(least)
            if held and (busy or time.monotonic() - used < SPARED_SECONDS):
                raise My3DGenError(FULL)
            gone.append(self._sessions.pop(least))
        return gone

    def _erase(self, session: Session) -> None:
        with session.lock:  # what is being kept at this moment is kept before, or not at all
            session.deleted = True  # a running fit sees this and stops
            adapters = [id(model.adapter) for model in (*session.models.values(), *session.lent.values())]
        self.on_delete(adapters)
        with self._lock:
            self._erased.append((time.monotonic(), session.folder, adapters))
        self._release(session, tuple(session.uploads))
        shutil.rmtree(session.folder, ignore_errors=True)
        session.forget()

    def _release(self, session: Session, paths: Iterable[str]) -> None:
        """A session lets go of uploads; what nobody else sent, too, is removed."""
        unused = {}
        with self._lock:
            for path in paths:
                if path not in session.uploads:  # somebody was sooner
                    continue
                del session.uploads[path]
                self._uploads[path] -= 1
                if self._uploads[path] <= 0:
                    del self._uploads[path]
                    unused[path] = self._inodes.pop(path)
        for path, inode in unused.items():
            _remove_upload(path, inode)

    def _erase_again(self) -> None:
        """What was deleted in the last minutes: a job that had not yet noticed may have put something back."""
        now = time.monotonic()
        with self._lock:
            self._erased = [each for each in self._erased if now - each[0] < ERASED_SECONDS]
            erased = list(self._erased)
        for _, folder, adapters in erased:
            shutil.rmtree(folder, ignore_errors=True)
            self.on_delete(adapters)

    def _erase_unclaimed(self) -> None:
        """Remove uploads that broke off, or that no call came for: no session knows of them.

        Only in this server's own folder; others may keep what they like in one that Gradio was told to use.
        """
        root, oldest = upload_root(), time.time() - UNCLAIMED_SECONDS
        if not folders.is_own(root):
            return
        for file in (*root.glob("tmp*"), *root.glob(UPLOAD_PATTERN)):
            with self._lock:
                if file.is_file() and str(file) not in self._uploads and file.stat().st_mtime < oldest:
                    _remove(file)

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
        _remove(file)


def _remove(file: Path) -> None:
    """Remove a file, and the folder that Gradio made for it alone."""
    file.unlink(missing_ok=True)
    if file.parent != upload_root():
        with suppress(OSError):  # only an empty folder goes, and Gradio may have been first
            file.parent.rmdir()
