"""Names of priors, and how a name or a path becomes one."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from my3dgen.assets import asset
from my3dgen.errors import My3DGenError
from my3dgen.priors import files, official
from my3dgen.priors.prior import Prior

log = logging.getLogger("my3dgen")
_loading = (
    threading.Lock()
)  # requests that arrive together wait for one load instead of each starting their own


@dataclass(frozen=True)
class Release:
    """Somebody else's weights that we may not ship."""

    official_file: str  # the file's name where it is published
    page: str  # where to get it
    licence: str  # what its users agree to


_EG3D = "https://catalog.ngc.nvidia.com/orgs/nvidia/teams/research/models/eg3d"
_LICENCE = "NVIDIA Source Code License, non-commercial"
RELEASES = {
    "ffhq": Release("ffhqrebalanced512-128.pkl", _EG3D, _LICENCE),
    "cats": Release("afhqcats512-128.pkl", _EG3D, _LICENCE),
}
NAMES = ("heads", *RELEASES)


def cache_folder() -> Path:
    """Where other people's weights are kept: MY3DGEN_CACHE, or my3dgen in the user's cache folder."""
    if folder := os.environ.get("MY3DGEN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "my3dgen"


def load_prior(
    name_or_path: str | os.PathLike | None = None, device: str | torch.device | None = None
) -> Prior:
    """A pretrained generator by name ("heads", "ffhq", "cats") or from a file (.pkl or our .safetensors).

    None: what MY3DGEN_PRIOR says; without it `ffhq` where there is a GPU and its file, and else `heads`.
    device: default a GPU where there is one. The same prior is loaded once per process and shared: it never
    changes.

    Raises `My3DGenError` for unknown names, missing and unreadable files, saying what to do. Nothing in a
    file is ever executed.
    """
    target = _device(device)
    if name_or_path is None:
        name_or_path = os.environ.get("MY3DGEN_PRIOR") or _default(target)
    name = os.fspath(name_or_path)
    path = _find(name)
    try:
        stat = path.stat()
    except OSError as error:
        raise My3DGenError(f"{path} cannot be read ({error.strerror}).") from error
    with _loading:
        return _load(
            name if name in NAMES else None, path.resolve(), (stat.st_mtime_ns, stat.st_size), target
        )


@lru_cache(maxsize=4)
def _load(name: str | None, path: Path, stamp: tuple[int, int], device: torch.device) -> Prior:
    """`stamp` (time and size) makes a changed file another entry."""
    try:
        if path.suffix.lower() == ".pkl":
            generator, stored_name = official.load_official(path), path.stem
        else:
            generator, stored_name = files.load_prior_file(path)
        digest = files.sha256(path)
    except OSError as error:
        raise My3DGenError(f"{path} cannot be read ({error.strerror}).") from error
    return Prior(name or stored_name, digest, generator.to(device))


def _find(name: str) -> Path:
    if name == "heads":
        return asset("heads.safetensors")
    if name in RELEASES:
        path = _cached(name)
        if path is None:
            release = RELEASES[name]
            raise My3DGenError(
                f"The prior {name!r} is not on this computer, and this version cannot download it yet. Get "
                f"{release.official_file} from {release.page} (licence: {release.licence}) and put it in "
                f"{cache_folder()}, or give the path of such a file, or use the prior 'heads'."
            )
        return path
    path = Path(name).expanduser()
    if not path.exists() and not path.suffix:
        raise My3DGenError(
            f"There is no prior {name[:200]!r}; expected {', '.join(NAMES)}, or a .pkl or .safetensors file."
        )
    if not path.is_file():
        raise My3DGenError(f"{name[:200]} is not a file; give the path of a prior (.pkl or .safetensors).")
    if path.suffix.lower() not in (".pkl", ".safetensors"):
        raise My3DGenError(
            f"{name[:200]} is neither a .pkl nor a .safetensors file; "
            "expected an official snapshot or a prior of ours."
        )
    return path


def _cached(name: str) -> Path | None:
    """The file of a release in the cache folder: converted, or as published."""
    for file in (f"{name}.safetensors", RELEASES[name].official_file):
        if (cache_folder() / file).is_file():
            return cache_folder() / file
    return None


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise My3DGenError(
            f"There is no device {str(device)[:80]!r}; expected 'cpu', 'cuda' or 'cuda:N'."
        ) from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise My3DGenError("A CUDA device was asked for, but PyTorch sees none; use device='cpu'.")
    return target


def _default(device: torch.device) -> str:
    if device.type == "cuda" and _cached("ffhq"):
        return "ffhq"
    log.warning(
        "No prior was named: using 'heads', our small one trained on synthetic people. 'ffhq' suits real "
        "selfies better; it needs NVIDIA's file and preferably a GPU."
    )
    return "heads"
