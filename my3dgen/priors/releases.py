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
    purpose: str  # what it is for here, in a few words
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
    needs: tuple[str, ...] = ()  # other files, by their names here, without which it is of no use
    kind: str = "person"  # of faces that a prior knows, as `my3dgen.prepare` calls them: "person" or "cat"


_NGC_PAGE = "https://catalog.ngc.nvidia.com/orgs/nvidia/teams/research/models/eg3d"
_NGC_FILES = "https://api.ngc.nvidia.com/v2/models/nvidia/research/eg3d/versions/1/files"
_HUB = "https://huggingface.co"
_NVIDIA = "NVIDIA Source Code License, non-commercial"
_NVIDIA_PAGE = "https://github.com/NVlabs/eg3d/blob/main/LICENSE.txt"
_EG3D = "Chan et al., Efficient Geometry-aware 3D Generative Adversarial Networks, CVPR 2022"


def _eg3d(file: str, purpose: str, **known: int | str | bool) -> Release:
    return Release(file, purpose, (f"{_NGC_FILES}/{file}",), _NGC_PAGE, _NVIDIA, _NVIDIA_PAGE, _EG3D, **known)


def _on_hub(repo: str, file: str, purpose: str, **known: int | str | tuple[str, ...]) -> Release:
    address = f"{_HUB}/{repo}/resolve/main/{file}"
    return Release(file, purpose, (address,), f"{_HUB}/{repo}", hub_repo=repo, **known)


# Priors, by the names they are loaded by.
RELEASES = {
    "ffhq": _eg3d(
        "ffhqrebalanced512-128.pkl",
        "the prior for photos of people",
        bytes=377_644_956,
        sha256="7f418947f38202a3c4c9de6e18d0617b380dd5e42c21ba78efe8cc235fde44a7",
        certain=False,  # one source only
    ),
    "cats": _eg3d("afhqcats512-128.pkl", "the prior for photos of cats", kind="cat"),
}

# Networks that help: used where they lie in the cache (landmarks: where MY3DGEN_LANDMARKS names the file), never fetched unasked.
HELPERS = {
    "landmarks": _on_hub(
        "camenduru/shape_predictor_68_face_landmarks",
        "shape_predictor_68_face_landmarks.dat",
        "finding a face's 68 landmarks",
        licence="non-commercial, as the iBUG 300-W photos it was trained on",
        licence_page="https://github.com/davisking/dlib-models#shape_predictor_68_face_landmarksdatbz2",
        citation="Sagonas et al., 300 Faces In-The-Wild Challenge, Image and Vision Computing 2016; King, Dlib-ml, JMLR 2009",
        bytes=99_693_937,
        sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    ),
    "arcface": _on_hub(
        "Fubei/splatviz_inversion_checkpoints",
        "model_ir_se50.pth",
        "the figure of identity",
        licence="MIT for the code it comes from; its training photos are for research only",
        licence_page="https://github.com/TreB1eN/InsightFace_Pytorch/blob/master/LICENSE",
        citation="Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019",
        sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
    ),
    "dists": _on_hub(
        "chaofengc/IQA-PyTorch-Weights",
        "DISTS_weights-f5e65c96.pth",
        "the figure of structure and texture",
        licence="CC BY-NC-SA 4.0 (non-commercial), as the collection this copy lies in",
        licence_page="https://huggingface.co/chaofengc/IQA-PyTorch-Weights/blob/main/README.md",
        citation="Ding et al., Image Quality Assessment: Unifying Structure and Texture Similarity, TPAMI 2020",
        sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        needs=("vgg16",),
    ),
    "vgg16": Release(
        "vgg16-397923af.pth",
        "features for DISTS",
        ("https://download.pytorch.org/models/vgg16-397923af.pth",),
        "https://pytorch.org/vision/stable/models/vgg.html",
        "BSD 3-Clause (torchvision); the photos of ImageNet it was trained on are for research only",
        "https://github.com/pytorch/vision/blob/main/LICENSE",
        "Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015",
        bytes=553_433_881,
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
}


def release(name: str) -> Release:
    """A published file by its name here. `My3DGenError` for an unknown one."""
    known = RELEASES | HELPERS
    if name not in known:
        raise My3DGenError(f"There is no published file {str(name)[:80]!r}; expected {', '.join(known)}.")
    return known[name]


def kind_of(prior: str | os.PathLike | None) -> str:
    """The kind of faces a prior knows, "person" or "cat", by its name or its file's (ours keep the official name).

    None is the default prior. Looks into no file: of a file with a name of its own it takes a person's faces until it
    is loaded (`Prior.kind`).
    """
    name = os.fspath(prior or os.environ.get("MY3DGEN_PRIOR") or "")
    for known, file in RELEASES.items():
        if name == known or Path(name).stem in (known, Path(file.official_file).stem):
            return file.kind
    return "person"


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
        return Path(os.path.expanduser(folder))
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
    folder = Path(os.path.expanduser(place))
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
