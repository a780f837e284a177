"""Downloads that can break off anywhere and go on later, and that never leave a file that is not whole.

A file grows as NAME.part beside its place and gets its name once size and SHA-256 are right. Going on uses
HTTP Range, tied to the version of the file the part came from; a server that ignores Range starts over.
"""

from __future__ import annotations

import errno
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from my3dgen.assets import sha256
from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress, ProgressCallback

try:
    import fcntl
except ImportError:  # Windows: two processes must not download the same file at once
    fcntl = None

log = logging.getLogger("my3dgen")
TIMEOUT = 20.0  # seconds without an answer
CHUNK = 1 << 18  # bytes written at a time
REPORT = 1_000_000  # bytes between two reports of progress
BREAKS = 20  # how often a connection may break in one call before we give up for now
PAUSE = 1.0  # seconds before going on after a break
LARGEST = 8 * 1024**3  # nothing we know is larger
_PARTIAL, _NOT_RESUMABLE, _TOO_MANY = 206, 416, 429
_WEB_PAGE = "a web page came in place of the file"
_USER_AGENT = "my3dgen (+https://arxiv.org/abs/2307.05468)"


@dataclass(frozen=True)
class Expected:
    """What is known about a file before it is there."""

    bytes: int | None = None
    sha256: str | None = None
    certain: bool = True  # a file that differs is refused; False: a warning is logged


class _Broken(Exception):
    """The network failed: no connection, no answer, or one that ended before the file did."""


class _Interrupted(My3DGenError):
    """We stop for now; what is here stays and is gone on with at the next call."""


def download(
    url: str,
    target: Path,
    expected: Expected | None = None,
    progress: ProgressCallback | None = None,
    remedy: str = "try again later",
) -> Path:
    """Fetch a file whole or not at all; a part from an earlier, interrupted call is gone on with.

    progress: called about every megabyte with steps in megabytes; returning False stops, and the part stays.
    remedy: what else a user can do, appended to every error.
    Returns `target`. Raises `My3DGenError` (one sentence) for no network, an HTTP error, a web page in place of
    the file, a full disk, a wrong size or hash; only an interruption leaves the .part file.
    """
    expected = expected or Expected()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise My3DGenError(
            f"{target.parent} cannot be made ({error.strerror}); choose another folder with MY3DGEN_CACHE."
        ) from error
    job = _Job(url, target, expected, progress, remedy)
    with _alone(target.parent):
        if not target.is_file():  # another process may have been first
            job.run()
    return target


def check(path: Path, expected: Expected) -> str:
    """SHA-256 of a whole file, once size and hash are as expected.

    Raises `My3DGenError` where they are not; a difference from what is not certain is only logged.
    """
    size, digest = path.stat().st_size, sha256(path)
    wrong = ""
    if expected.bytes is not None and size != expected.bytes:
        wrong = f"it has {size} bytes, expected {expected.bytes}"
    elif expected.sha256 is not None and digest != expected.sha256:
        wrong = f"its SHA-256 is {digest[:16]}..., expected {expected.sha256[:16]}..."
    if wrong and expected.certain:
        raise My3DGenError(f"{path.name.removesuffix('.part')} is not the published file: {wrong}.")
    if wrong:
        log.warning(
            "%s differs from the file we know (%s). That was known from one source only, so it is used all the same.",
            path.name.removesuffix(".part"),
            wrong,
        )
    return digest


class _Job:
    """One file on its way."""

    def __init__(
        self, url: str, target: Path, expected: Expected, progress: ProgressCallback | None, remedy: str
    ):
        self.url, self.target, self.expected = url, target, expected
        self.progress, self.remedy = progress, remedy
        self.part = target.with_name(target.name + ".part")
        self.tag = target.with_name(target.name + ".part.tag")  # version of the file that the part is from
        self.total: int | None = None  # bytes of the whole file, as the server says

    def run(self) -> None:
        try:
            self._transfer()
            check(self.part, self.expected)
            os.replace(self.part, self.target)
            self.tag.unlink(missing_ok=True)
        except _Interrupted as stop:
            have = self._size()
            kept = f" ({megabytes(have)} MB are here, the next call goes on with them)" if have else ""
            raise My3DGenError(self._sentence(f"{stop}{kept}")) from stop
        except My3DGenError as error:
            self._discard()
            raise My3DGenError(self._sentence(str(error).rstrip("."))) from error
        except OSError as error:  # a network's errors have become others by now: this is the disk
            self._discard()
            raise self._disk(error) from error

    def _transfer(self) -> None:
        breaks = 0
        while True:
            have = self._size()
            try:
                return self._request(have)
            except _Broken as broken:
                if self._size() <= have or breaks == BREAKS:
                    raise _Interrupted(str(broken)) from broken
                breaks += 1
                time.sleep(PAUSE)

    def _request(self, have: int) -> None:
        """Ask for what is missing and append it to the part."""
        answer = self._ask(have)
        if answer is None:
            if self.total == have:  # stopped after the last byte
                return
            self._discard()  # longer than the file that is there now
            answer, have = self._ask(0), 0
        with answer:
            have = self._begin(answer, have)
            with open(self.part, "ab") as file:
                self._append(answer, file, have)
        if self.total is not None and self._size() < self.total:
            raise _Broken(f"the connection broke off after {self._size()} of {self.total} bytes")

    def _ask(self, have: int) -> http.client.HTTPResponse | None:
        """The server's answer; None where it has nothing from there on."""
        headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if version := self._version():
                headers["If-Range"] = version
        try:
            with _network():
                return urllib.request.urlopen(
                    urllib.request.Request(self.url, headers=headers), timeout=TIMEOUT
                )
        except urllib.error.HTTPError as error:
            if error.code == _NOT_RESUMABLE and have:
                whole = error.headers.get("Content-Range", "").strip() == f"bytes */{have}"
                self.total = have if whole else None
                return None
            if error.code >= 500 or error.code == _TOO_MANY:
                raise _Broken(_refusal(error)) from error
            raise My3DGenError(_refusal(error)) from error

    def _begin(self, answer: http.client.HTTPResponse, have: int) -> int:
        """Judge an answer by its headers, before anything is written; how much of the part can stay."""
        if answer.status == _PARTIAL:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if not found or int(found[1]) != have:
                raise My3DGenError("the server sent another part of the file than was asked for")
            self.total = int(found[2]) if found[2] != "*" else None
        else:
            have = 0
            self._discard()
            length = answer.headers.get("Content-Length", "")
            self.total = int(length) if length.isdigit() else None
        if "text/html" in answer.headers.get("Content-Type", "").lower():
            raise My3DGenError(_WEB_PAGE)
        known = self.expected
        if (self.total or 0) > LARGEST or (
            known.certain and known.bytes and self.total not in (None, known.bytes)
        ):
            raise My3DGenError(
                f"the file there has {self.total} bytes, expected {known.bytes or 'far fewer'}"
            )
        if (self.total or known.bytes or 0) - have > shutil.disk_usage(self.part.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not have:
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            if version and not version.startswith("W/"):  # a weak tag does not promise the same bytes
                self.tag.write_text(version)
        return have

    def _append(self, answer: http.client.HTTPResponse, file: BinaryIO, done: int) -> None:
        start, first, reported = time.monotonic(), done, done
        while chunk := _read(answer):
            if not done and chunk.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
                raise My3DGenError(_WEB_PAGE)
            done += len(chunk)
            if done > (self.total or LARGEST):
                raise My3DGenError("the server sent more than the file")
            file.write(chunk)
            if done - reported >= REPORT or done == self.total:
                reported = done
                if not self._report(done, (time.monotonic() - start) / (done - first)):
                    raise _Interrupted("it was stopped")

    def _report(self, done: int, seconds_per_byte: float) -> bool:
        if self.progress is None:
            return True
        total = max(self.total or self.expected.bytes or done, done)
        left = seconds_per_byte * (total - done)
        stage = f"download {self.target.name} (MB)"
        return self.progress(Progress(stage, megabytes(done), megabytes(total), left)) is not False

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _version(self) -> str:
        return self.tag.read_text().strip()[:200] if self.tag.exists() else ""

    def _discard(self) -> None:
        for path in (self.part, self.tag):
            path.unlink(missing_ok=True)

    def _sentence(self, what: str) -> str:
        return f"{self.target.name} could not be downloaded from {self.url}: {what}; {self.remedy}."

    def _disk(self, error: OSError) -> My3DGenError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else error.strerror or "the disk does not answer"
        need = self.total or self.expected.bytes
        room = f" ({megabytes(need)} MB are needed)" if full and need else ""
        return My3DGenError(
            f"{self.target.name} could not be written to {self.target.parent}: {what}{room}; make room there, or "
            "choose another folder with MY3DGEN_CACHE."
        )


def megabytes(count: int) -> int:
    """Bytes as whole megabytes, at least 1."""
    return max(1, round(count / 1e6))


@contextmanager
def _network() -> Iterator[None]:
    """What the network does wrong becomes _Broken, so that every other OSError is the disk's."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise _Broken(f"the server cannot be reached ({_words(error.reason)})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke off ({_words(error)})") from error


def _read(answer: http.client.HTTPResponse) -> bytes:
    with _network():
        return answer.read(CHUNK)


def _words(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:150]


def _refusal(error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return f"the server asks for a login or for its terms to be accepted (HTTP {error.code})"
    if error.code in (404, 410):
        return f"there is no such file (HTTP {error.code})"
    return f"the server answers HTTP {error.code}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time downloads into a folder; the lock goes when its holder does, however it ends."""
    handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if handle is not None:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle is not None:
            os.close(handle)
