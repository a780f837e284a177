"""The files of `assets/`: where they lie, what is in them, and the hash by which files name one another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

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


@contextmanager
def opened(name: str) -> Iterator[Any]:
    """A .safetensors file of `assets/`, open: `keys`, `metadata`, `get_tensor`.

    Raises:
        My3DGenError: where it is missing or damaged, also while it is read.
    """
    path = asset(name)
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise My3DGenError(
            f"{path} is damaged ({str(error)[:200]}). Get a complete checkout, or make the file anew as assets/README.md "
            "describes"
        ) from error


def weights(name: str) -> dict[str, Any]:
    """The tensors of a .safetensors file of `assets/`, halves as float32. Raises what `opened` does."""
    with opened(name) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def fill(network: Any, name: str) -> Any:
    """Give a torch module the weights in a file of `assets/`; returns it, frozen. Raises what `opened` does, and
    `My3DGenError` where they are another version's."""
    tensors = weights(name)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:  # names or shapes
        raise My3DGenError(
            f"{assets_folder() / name} is of another version of my3dgen. Get a checkout whose assets belong to its code"
        ) from error
    return network.eval().requires_grad_(False)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
