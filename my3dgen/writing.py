"""Files that are written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from my3dgen.errors import My3DGenError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file to write beside `path`, with its ending, that takes its place (through a link) once the block ends well.

    Readers never see half a file, and what was there before stays where writing fails. The folder is made.

    Raises:
        My3DGenError: where the system refuses (no right, no space, a file where a folder should be).
    """
    path = Path(path)
    if not path.name:
        raise My3DGenError(f"{str(path)!r} is a folder; give the name of a file.")
    partly = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partly
        partly.replace(path.resolve())
    except OSError as error:
        reason = error.strerror or (str(error).strip().splitlines() or ["unknown reason"])[-1][:200]
        raise My3DGenError(f"{path} cannot be written ({reason}); choose another folder.") from error
    finally:
        with suppress(OSError):
            partly.unlink(missing_ok=True)


def write_picture(picture: np.ndarray, path: str | Path) -> Path:
    """Write a uint8 picture [H, W, 3] or a mask [H, W] in the format of the path's ending. Raises as `replacing`."""
    with replacing(path) as file:
        Image.fromarray(picture).save(file)
    return Path(path)
