"""A small deterministic stand-in for the models, so that the page can be tested in seconds.

Only tests install it. A "photo" is any readable picture; who is in it is its mean colour, and every
rendered "face" is a cartoon in that colour that turns with the camera.
"""

from __future__ import annotations

import io
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import my3dgen
from my3dgen import cameras
from my3dgen.errors import My3DGenError
from my3dgen.faces.face import Face
from my3dgen.progress import Ticker

SIZE = 128
STEP_SECONDS = 0.02
GREY = (150, 150, 150)


def cartoon(colour, yaw: float, pitch: float, size: int = SIZE) -> np.ndarray:
    """A head in one colour that looks where the camera says: uint8 [size, size, 3]."""
    picture = Image.new("RGB", (size * 2, size * 2), (235, 240, 245))
    draw, s = ImageDraw.Draw(picture), size * 2
    draw.ellipse((0.2 * s, 0.1 * s, 0.8 * s, 0.9 * s), fill=tuple(int(c) for c in colour))
    x, y = s * (0.5 - 0.35 * yaw), s * (0.5 + 0.35 * pitch)
    for side in (-1, 1):
        eye = x + side * 0.13 * s
        draw.ellipse((eye - 0.05 * s, y - 0.16 * s, eye + 0.05 * s, y - 0.08 * s), fill=(30, 30, 40))
    draw.ellipse((x - 0.03 * s, y - 0.03 * s, x + 0.03 * s, y + 0.08 * s), fill=(90, 60, 50))
    draw.arc((x - 0.14 * s, y + 0.05 * s, x + 0.14 * s, y + 0.25 * s), 20, 160, fill=(120, 30, 40), width=6)
    return np.asarray(picture.resize((size, size)))


@dataclass(frozen=True)
class Anchors:
    ws: torch.Tensor
    cameras: torch.Tensor
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Adapter:
    anchors: Anchors
    prior_name: str = "heads"
    rank: int = 1
    trainable_parameters: int = 12345

    def save(self, path, dtype=None):
        save_file(
            {"ws": self.anchors.ws.contiguous(), "cameras": self.anchors.cameras.contiguous()},
            str(path),
            {"prior": self.prior_name, "rank": str(self.rank)},
        )


@dataclass(frozen=True)
class Prior:
    name: str
    adapter: Adapter | None = None

    def personalized(self, adapter):
        return Prior(self.name, adapter)


@dataclass(frozen=True)
class TaskResult:
    images: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    input: np.ndarray
    pretrained: TaskResult
    personalized: TaskResult


@dataclass(frozen=True)
class TuneOptions:
    steps: int = 20
    seed: int = 0
    symmetry: bool = False

    @staticmethod
    def for_prior(prior):
        return TuneOptions()


def with_mirrors(faces):
    return list(faces)


def load_prior(name=None, device=None):
    return Prior(name or "heads")


def prepare(photos, progress=None):
    ticker = Ticker("prepare", len(photos), progress)
    faces = []
    for step, photo in enumerate(photos, 1):
        faces.append(_face(photo, f"photo {step}" if isinstance(photo, bytes) else str(photo)))
        ticker.tick(step)
    return faces


def _face(photo, path: str) -> Face:
    try:
        image = Image.open(io.BytesIO(photo) if isinstance(photo, bytes) else photo).convert("RGB")
    except Exception:
        return Face(
            path, refused="This is not a picture that can be read; use JPEG, PNG, WebP and HEIC photos."
        )
    if np.asarray(image).max() < 8:
        return Face(
            path, refused="The photo is too dark to see a face.", thumbnail=np.asarray(image.resize((64, 64)))
        )
    pixels = np.asarray(image.resize((512, 512)))
    number = sum(Path(path).stem.encode()) % 7
    camera = cameras.camera(0.1 * (number - 3), 0.05 * (number - 3)).numpy()
    warnings = ("The photo is a little blurred.",) if number == 6 else ()
    return Face(
        path,
        pixels,
        np.ones((512, 512), bool),
        np.zeros((68, 2), np.float32),
        camera,
        warnings,
        None,
        pixels[::8, ::8],
    )


def project(prior, faces, steps=None, progress=None, options=None):
    ticker = Ticker("project", 10, progress)
    for step in range(1, 11):
        time.sleep(STEP_SECONDS)
        if not ticker.tick(step, loss=1.0 / step):
            break
    ws = torch.zeros(len(faces), 2, 8)
    for i, face in enumerate(faces):
        ws[i, 0, :3] = torch.from_numpy(face.image.reshape(-1, 3).mean(0)).float()
    return Anchors(
        ws, torch.stack([torch.as_tensor(f.camera) for f in faces]), tuple(f.source for f in faces)
    )


def personalize(prior, faces, anchors, rank=1, progress=None, options=None):
    steps = options.steps
    ticker = Ticker("personalize", steps, progress)
    for step in range(1, steps + 1):
        time.sleep(STEP_SECONDS)
        preview = faces[0].image[::4, ::4] if step % 5 == 0 else None
        if not ticker.tick(step, loss=0.5 / step**0.5, preview=preview):
            break
    return Adapter(anchors, prior.name, rank)


def load_adapter(path):
    try:
        with safe_open(str(path), "pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        raise My3DGenError(
            "The file is not an adapter: it is no .safetensors file; choose one made here."
        ) from None
    if "prior" not in meta or set(tensors) != {"ws", "cameras"}:
        raise My3DGenError(
            "The file is not an adapter: its contents are of another kind; choose one made here."
        )
    count = len(tensors["ws"])
    return Adapter(
        Anchors(tensors["ws"], tensors["cameras"], ("",) * count), meta["prior"], int(meta["rank"])
    )


def view_grid(prior, ws, yaws, pitches):
    colour = ws[0, :3].tolist() if prior.adapter is not None else GREY
    time.sleep(0.005)
    return np.stack([np.stack([cartoon(colour, yaw, pitch) for yaw in yaws]) for pitch in pitches])


def compare(task, prior, me, photo, steps=None, tuning_steps=0, progress=None, references=None):
    assert task == "invert"
    ticker = Ticker("invert", 10, progress)
    for step in range(1, 11):
        time.sleep(STEP_SECONDS)
        if not ticker.tick(step, loss=1.0 / step):
            break
    colour = photo.image.reshape(-1, 3).mean(0)

    def result(colour, score):
        images = {"image": cartoon(colour, 0.0, 0.0)}
        images |= {f"view_{i}": cartoon(colour, yaw, 0.0) for i, yaw in enumerate((-0.3, 0.3))}
        return TaskResult(images, {"id_sim": score, "perceptual": 1 - score, "seconds": 0.2})

    return Comparison(photo.image, result(GREY, 0.5), result(colour, 0.7))


def install() -> None:
    """Put the stand-ins in place of my3dgen's functions, for this process only."""
    from my3dgen.studio import compute, priors

    for name in (
        "TuneOptions",
        "with_mirrors",
        "load_prior",
        "prepare",
        "project",
        "personalize",
        "load_adapter",
        "view_grid",
        "compare",
    ):
        setattr(my3dgen, name, getattr(sys.modules[__name__], name))
    compute.networks = lambda: {"identity": "a fake", "perceptual": "a fake"}
    compute.compare_people = lambda faces: faces
    compute.likeness = lambda *_: {"photos": 0.8, "pretrained": 0.45, "personalized": 0.7}
    priors.default = lambda: "heads"
