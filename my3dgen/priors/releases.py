"""Other people's weights that we may not ship: where they come from, what they are, what using them means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from my3dgen.errors import My3DGenError


@dataclass(frozen=True)
class Release:
    """One published file."""

    official_file: str  # its name where it is published
    urls: tuple[str, ...]  # where it can be downloaded, best first
    page: str  # where a person finds it
    licence: str  # what its users agree to, in a few words
    licence_page: str  # the licence itself
    citation: str  # what to cite
    bytes: int | None = None  # its size; None = not known
    sha256: str | None = None  # 64 hex digits; None = not known
    certain: bool = (
        True  # size and hash were confirmed twice: a file that differs is refused, not warned about
    )
    hub_repo: str | None = None  # the Hugging Face repo that has it, which a Space may preload


_NGC_PAGE = "https://catalog.ngc.nvidia.com/orgs/nvidia/teams/research/models/eg3d"
_NGC_FILES = "https://api.ngc.nvidia.com/v2/models/nvidia/research/eg3d/versions/1/files"
_HUB = "https://huggingface.co"
_NVIDIA = "NVIDIA Source Code License, non-commercial"
_NVIDIA_PAGE = "https://github.com/NVlabs/eg3d/blob/main/LICENSE.txt"
_EG3D = "Chan et al., Efficient Geometry-aware 3D Generative Adversarial Networks, CVPR 2022"


def _eg3d(file: str, **known: int | str | bool) -> Release:
    return Release(file, (f"{_NGC_FILES}/{file}",), _NGC_PAGE, _NVIDIA, _NVIDIA_PAGE, _EG3D, **known)


def _on_hub(
    repo: str, file: str, licence: str, licence_page: str, citation: str, **known: int | str
) -> Release:
    address = f"{_HUB}/{repo}/resolve/main/{file}"
    return Release(
        file, (address,), f"{_HUB}/{repo}", licence, licence_page, citation, hub_repo=repo, **known
    )


# Priors, by the names they are loaded by.
RELEASES = {
    "ffhq": _eg3d(
        "ffhqrebalanced512-128.pkl",
        bytes=377_644_956,
        sha256="7f418947f38202a3c4c9de6e18d0617b380dd5e42c21ba78efe8cc235fde44a7",
        certain=False,  # one source only
    ),
    "cats": _eg3d("afhqcats512-128.pkl"),
}

# Networks that help: used where they lie in the cache, never fetched unasked.
HELPERS = {
    "landmarks": _on_hub(
        "camenduru/shape_predictor_68_face_landmarks",
        "shape_predictor_68_face_landmarks.dat",
        "non-commercial, as the iBUG 300-W photos it was trained on",
        "https://github.com/davisking/dlib-models#shape_predictor_68_face_landmarksdatbz2",
        "Sagonas et al., 300 Faces In-The-Wild Challenge, Image and Vision Computing 2016; King, Dlib-ml, JMLR 2009",
        bytes=99_693_937,
        sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    ),
    "arcface": _on_hub(
        "Fubei/splatviz_inversion_checkpoints",
        "model_ir_se50.pth",
        "MIT for the code it comes from; its training photos are for research only",
        "https://github.com/TreB1eN/InsightFace_Pytorch/blob/master/LICENSE",
        "Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019",
        sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
    ),
}


def release(name: str) -> Release:
    """A published file by its name here. `My3DGenError` for an unknown one."""
    known = RELEASES | HELPERS
    if name not in known:
        raise My3DGenError(f"There is no published file {str(name)[:80]!r}; expected {', '.join(known)}.")
    return known[name]


def terms(name: str) -> str:
    """What a user of a published file agrees to and should cite, in one line."""
    file = release(name)
    return (
        f"{file.official_file} is under this licence: {file.licence} ({file.licence_page}). "
        f"Cite: {file.citation}."
    )


def cache_folder() -> Path:
    """Where other people's weights are kept: MY3DGEN_CACHE, or my3dgen in the user's cache folder."""
    if folder := os.environ.get("MY3DGEN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "my3dgen"


def offline() -> bool:
    """Whether MY3DGEN_OFFLINE or HF_HUB_OFFLINE forbids every download."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on")
        for name in ("MY3DGEN_OFFLINE", "HF_HUB_OFFLINE")
    )


def own_source() -> str | Path | None:
    """The place MY3DGEN_WEIGHTS names in place of the published ones: a folder, or an http(s) address.

    It may be a local folder, an address the file's name is appended to, or a Hugging Face repo (owner/name).
    None where it is not set. Raises `My3DGenError` where it is none of them.
    """
    place = os.environ.get("MY3DGEN_WEIGHTS", "").strip()
    if not place:
        return None
    if re.match(r"https?://", place):
        return place.rstrip("/")
    folder = Path(place).expanduser()
    if folder.is_dir():
        return folder
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", place):
        hub = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
        return f"{hub}/{place}/resolve/main"
    raise My3DGenError(
        f"MY3DGEN_WEIGHTS is {place[:200]!r}, which is no folder; give a folder that exists, a Hugging Face repo "
        "(owner/name) or an http(s) address that holds the official files."
    )


def addresses(name: str) -> tuple[str, ...]:
    """Where a published file is downloaded from, best first: only MY3DGEN_WEIGHTS where that is set."""
    place = own_source()
    if isinstance(place, str):
        return (f"{place}/{release(name).official_file}",)
    return release(name).urls
