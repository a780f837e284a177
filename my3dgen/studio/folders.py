"""Where this server keeps visitors' files: a folder of its own, which no other account of the machine can look into."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "server-"  # of each server's folder, followed by its process and a random word
_made: list[Path] = []  # by this process


def own_folder() -> Path:
    """Make this server's folder, and remove what servers left that were killed.

    The kernel keeps no file of a process that ends without warning from lying there for good; the next start does.
    """
    root = Path(tempfile.gettempdir()) / f"my3dgen-{os.getuid()}"
    with suppress(FileExistsError):  # it may be no folder
        root.mkdir(mode=0o700, exist_ok=True)
    there = root.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid() or there.st_mode & 0o077:
        _made.append(
            Path(tempfile.mkdtemp(prefix="my3dgen-"))
        )  # somebody else made it: a fresh one is only ours
        return _made[-1]
    for folder in root.glob(f"{PREFIX}*"):
        if not _runs(folder.name.removeprefix(PREFIX).partition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)
    folder = root / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    _made.append(folder)
    return folder


def is_own(folder: Path) -> bool:
    """Whether this process made a folder, so that everything in it is this server's."""
    return folder.resolve() in [each.resolve() for each in _made]


def remove_own() -> None:
    """The server stops in good order: nothing stays, not even what nobody claimed."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)


def _runs(process: str) -> bool:
    """Whether a process is there and is not this one (in a container every start may have the same number)."""
    if not process.isdecimal() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
