"""Where the files of `assets/` lie."""

from __future__ import annotations

import os
from pathlib import Path

from my3dgen.errors import My3DGenError


def asset(name: str) -> Path:
    """Path of a file in `assets/` (or in the folder MY3DGEN_ASSETS names).

    Raises:
        My3DGenError: where it is missing.
    """
    folder = Path(os.environ.get("MY3DGEN_ASSETS") or Path(__file__).resolve().parent.parent / "assets")
    path = folder / name
    if not path.is_file():
        raise My3DGenError(
            f"{path} is missing. Get a complete checkout, set MY3DGEN_ASSETS to the assets folder, "
            "or make the file anew as assets/README.md describes"
        )
    return path
