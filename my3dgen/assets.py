"""Where the files of `assets/` lie, and the hash by which files name one another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from my3dgen.errors import My3DGenError

POINTER = b"version https://git-lfs"  # how the stand-in begins that a clone without Git LFS gets


def assets_folder() -> Path:
    """`assets/`, or the folder MY3DGEN_ASSETS names."""
    return Path(os.environ.get("MY3DGEN_ASSETS") or Path(__file__).resolve().parent.parent / "assets")


def asset(name: str) -> Path:
    """Path of a file in `assets/` (or in the folder MY3DGEN_ASSETS names).

    Raises:
        My3DGenError: where it is missing, or Git LFS has not fetched it.
    """
    path = assets_folder() / name
    if not path.is_file():
        raise My3DGenError(
            f"{path} is missing. Get a complete checkout, set MY3DGEN_ASSETS to the assets folder, "
            "or make the file anew as assets/README.md describes"
        )
    with open(path, "rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise My3DGenError(f"{path} is only Git LFS's pointer to the file; fetch it with `git lfs pull`.")
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
