"""Names of priors, and how a name or a path becomes one: found, downloaded, converted, loaded once."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import nullcontext
from functools import cache, lru_cache
from pathlib import Path

import torch

from my3dgen.assets import asset, assets_folder, sha256
from my3dgen.errors import My3DGenError
from my3dgen.priors import files, official
from my3dgen.priors.download import Expected, check, download
from my3dgen.priors.prior import Prior
from my3dgen.priors.releases import (
    RELEASES,
    addresses,
    cache_folder,
    offline,
    own_source,
    release,
    terms,
)
from my3dgen.progress import ProgressCallback

log = logging.getLogger("my3dgen")
# requests that arrive together wait for one load, or one download, instead of each starting their own
_loading, _fetching = threading.Lock(), threading.Lock()
_failed: dict[str, str] = {}  # why the default prior could not be had, for the rest of this process


NAMES = ("heads", *RELEASES)


def load_prior(
    name_or_path: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    progress: ProgressCallback | None = None,
) -> Prior:
    """A pretrained generator by name ("heads", "ffhq", "cats") or from a file (.pkl or our .safetensors).

    None: what MY3DGEN_PRIOR says; without it `ffhq` on a machine with a GPU and its file or a network, and else
    `heads`. device: default a GPU where there is one. The same prior is loaded once per process and shared: it
    never changes.
    `ffhq` and `cats` are downloaded at first use (`progress` hears of it; MY3DGEN_WEIGHTS names another source,
    MY3DGEN_OFFLINE=1 forbids it), converted to a .safetensors in `cache_folder()`, and loaded from there.

    Raises `My3DGenError` for unknown names, missing and unreadable files, saying what to do. Nothing in a
    file is ever executed.
    """
    target = device_of(device)
    if name_or_path is None:
        name_or_path = os.environ.get("MY3DGEN_PRIOR") or _default(target, progress)
    if not isinstance(name_or_path, (str, os.PathLike)):
        got = type(name_or_path).__name__
        raise My3DGenError(f"A prior is given by its name or its file's path; got {got!r}.")
    name = os.fspath(name_or_path)
    path = _find(name, progress)
    try:
        stat = path.stat()
    except OSError as error:
        raise My3DGenError(f"{path} cannot be read ({error.strerror}).") from error
    with _loading:
        return _load(
            name if name in NAMES else None, path.resolve(), (stat.st_mtime_ns, stat.st_size), target
        )


def installed(name: str) -> bool:
    """Whether a prior's or a helper network's file is on this computer. Downloads nothing."""
    return (
        name == "heads" or (name in RELEASES and _converted(name).is_file()) or local_file(name) is not None
    )


def local_file(name: str) -> Path | None:
    """The official file of a release or helper network where this computer has it; None elsewhere.

    Looked for in the cache folder, in the folder MY3DGEN_WEIGHTS names, in `assets/`, and, as a Space preloads
    it there, in the Hugging Face cache. Downloads nothing.
    """
    file = release(name).official_file
    place = own_source()
    for folder in (cache_folder(), place, assets_folder()):
        if isinstance(folder, Path) and (folder / file).is_file():
            return folder / file
    if repo := release(name).hub_repo:
        from huggingface_hub import try_to_load_from_cache  # slow to import, and rarely needed

        if isinstance(found := try_to_load_from_cache(repo, file), str):
            return Path(found)
    return None


def fetch(name: str, progress: ProgressCallback | None = None) -> Path:
    """The official file of a release or helper network, downloaded and verified where it is not here yet.

    Raises `My3DGenError` where it cannot be had, with what to do instead.
    """
    if (path := local_file(name)) is not None:
        return path
    file = release(name)
    remedy = f"get {file.official_file} from {file.page} and put it in {cache_folder()}"
    if name in RELEASES:
        remedy += ", or use the prior 'heads'"
    if isinstance(place := own_source(), Path):
        raise My3DGenError(f"MY3DGEN_WEIGHTS names {place}, which has no {file.official_file}; {remedy}.")
    if offline():
        raise My3DGenError(
            f"{name!r} is not on this computer, and MY3DGEN_OFFLINE or HF_HUB_OFFLINE forbids downloads; unset "
            f"it, or {remedy} (licence: {file.licence})."
        )
    _announce(name)
    target, expected = cache_folder() / file.official_file, _expected(name)
    *first, last = addresses(name)
    for address in first:
        try:
            return download(address, target, expected, progress)
        except My3DGenError as error:
            log.warning("%s", error)
    return download(last, target, expected, progress, remedy)


@lru_cache(maxsize=4)
def _load(name: str | None, path: Path, stamp: tuple[int, int], device: torch.device) -> Prior:
    """`stamp` (time and size) makes a changed file another entry."""
    try:
        if path.suffix.lower() == ".pkl":
            generator, stored_name, digest = official.load_official(path), path.stem, sha256(path)
        else:
            generator, stored_name, digest = files.load_prior_file(path)
    except OSError as error:
        raise My3DGenError(f"{path} cannot be read ({error.strerror}).") from error
    return Prior(name or stored_name, digest, generator.to(device))


def _find(name: str, progress: ProgressCallback | None = None) -> Path:
    if name == "heads":
        return asset("heads.safetensors")
    if name in RELEASES:
        return _published(name, progress)
    path = Path(os.path.expanduser(name))  # ~somebody who is unknown stays as it is
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


def _published(name: str, progress: ProgressCallback | None) -> Path:
    """Our conversion of a release, made from the official file where it is not there yet."""
    converted = _converted(name)
    # asked before, too: who has what they want does not wait for somebody else's download
    with nullcontext() if converted.is_file() else _fetching:
        if not converted.is_file():
            here = local_file(name)
            path = here or fetch(name, progress)
            try:
                digest = check(path, _expected(name))
                files.save_prior(converted, official.load_official(path), name, source_sha256=digest)
            # no failure where another process was sooner: it has cleared the file away
            except My3DGenError:
                if not converted.is_file():
                    raise
            except OSError as error:
                if not converted.is_file():
                    raise My3DGenError(f"{path} cannot be read ({error.strerror}).") from error
            finally:
                if here is None:  # fetched by us: of no more use once converted, and damaged it must not stay
                    path.unlink(missing_ok=True)
    _announce(name)
    return converted


def _converted(name: str) -> Path:
    return cache_folder() / f"{name}.safetensors"


def _expected(name: str) -> Expected:
    file = release(name)
    return Expected(file.bytes, file.sha256, file.certain)


@cache
def _announce(name: str) -> None:
    """Once a process: what using these weights means."""
    log.warning("%s", terms(name))


def device_of(device: str | torch.device | None) -> torch.device:
    """The device of a name; None: a GPU where there is one.

    Raises:
        My3DGenError: where there is no such device.
    """
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
    if target.type not in ("cpu", "cuda") or (target.index or 0) >= max(torch.cuda.device_count(), 1):
        raise My3DGenError(
            f"The device {str(device)[:80]!r} is none that is used here; expected 'cpu', 'cuda' or 'cuda:N' of "
            f"{torch.cuda.device_count()} GPUs."
        )
    return target


def _default(device: torch.device, progress: ProgressCallback | None) -> str:
    """The prior where none was named: `ffhq` where it runs well and can be had; else one line says why not."""
    why = "there is no GPU"
    if device.type == "cuda":
        try:
            if "ffhq" not in _failed:
                _published("ffhq", progress)
                return "ffhq"
        except My3DGenError as error:
            _failed["ffhq"] = str(error)  # asked once a process, not at every request
        why = _failed["ffhq"]
    log.warning(
        "No prior was named: using 'heads', our small one trained on synthetic people, because %s. 'ffhq' suits "
        "real selfies better; it needs NVIDIA's file and preferably a GPU.",
        why.rstrip("."),
    )
    return "heads"
