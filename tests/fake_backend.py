"""A small deterministic stand-in for the models, so that the page can be tested in seconds.

Only tests install it. A "photo" is any readable picture; who is in it is its mean colour, and every
rendered "face" is a cartoon in that colour that turns with the camera.
"""

from __future__ import annotations

import io
import sys
import time
from dataclasses import dataclass, field, replace
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
NETWORKS = {"identity": "a fake", "perceptual": "a fake"}


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
    prior_sha256: str = "of a fake"
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
    sha256: str = "of a fake"
    device: str = "cpu"
    base: Prior | None = None

    def personalized(self, adapter):
        return Prior(self.name, adapter)

    def to(self, device):
        return replace(self, device=str(device))


@dataclass(frozen=True)
class TaskResult:
    images: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)
    ws: torch.Tensor | None = None
    camera: torch.Tensor | None = None
    networks: dict = field(default_factory=lambda: dict(NETWORKS))
    frames: tuple = ()
    extra: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    input: np.ndarray | None
    pretrained: TaskResult
    personalized: TaskResult
    full: object = None


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


def load_prior(name=None, device=None, progress=None):
    return Prior(name or "heads")


def prepare(photos, progress=None, kind="person"):
    ticker = Ticker("prepare", len(photos), progress)
    faces, going = [], True
    for step, photo in enumerate(photos, 1):
        name = f"photo {step}" if isinstance(photo, bytes) else str(photo)
        faces.append(_face(photo, name, kind) if going else Face(name, refused="Not looked at."))
        going = going and ticker.tick(step)
    return faces


def _face(photo, path: str, kind: str) -> Face:
    try:
        image = Image.open(io.BytesIO(photo) if isinstance(photo, bytes) else photo).convert("RGB")
    except Exception:
        return Face(
            path, refused="This is not a picture that can be read; use JPEG, PNG, WebP and HEIC photos."
        )
    if kind == "person" and np.asarray(image).max() < 8:
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
        kind=kind,
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
    return Adapter(anchors, prior.name, rank=rank)


def full_fine_tuning(prior, faces, anchors, progress=None):
    """A prior of its own, as grey as the pretrained one."""
    ticker = Ticker("full fine-tuning", 10, progress)
    for step in range(1, 11):
        time.sleep(STEP_SECONDS)
        if not ticker.tick(step, loss=1.0 / step):
            break
    return Prior(prior.name, sha256="of a fully tuned fake")


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
        Anchors(tensors["ws"], tensors["cameras"], ("",) * count), meta["prior"], rank=int(meta["rank"])
    )


def view_grid(prior, ws, yaws, pitches):
    colour = ws[0, :3].tolist() if prior.adapter is not None else GREY
    time.sleep(0.005)
    return np.stack([np.stack([cartoon(colour, yaw, pitch) for yaw in yaws]) for pitch in pitches])


STRENGTHS = [-2.0, -1.0, 0.0, 1.0, 2.0]


def compare(task, prior, me, photo=None, progress=None, references=None, full=None, **options):
    """Every task in 10 steps a model; the pretrained one is grey and scores 0.5, the personalized one 0.7, a fully tuned one 0.6."""
    results = []
    models = [("pretrained", prior, 0.5), ("personalized", me, 0.7)]
    for who, model, score in models if full is None else [*models, ("full fine-tuning", full, 0.6)]:
        ticker = Ticker(f"{who}: fit", 10 if not options.get("steps") else options["steps"], progress)
        for step in range(1, ticker.steps + 1):
            time.sleep(STEP_SECONDS)
            if not ticker.tick(step, loss=1.0 / step):
                break
        results.append(TASKS[task](model, _shown(task, photo, me), score, **options))
    return Comparison(photo.image if isinstance(photo, Face) else results[0].images.get("input"), *results)


def _shown(task, photo, me):
    """Whom a task is about: mean colours from 0 to 255."""
    if isinstance(photo, Face):
        return photo.image.reshape(-1, 3).mean(0)
    if photo is not None:
        return np.asarray(Image.open(photo).convert("RGB")).reshape(-1, 3).mean(0)
    return me.adapter.anchors.ws[0, 0, :3].numpy()


def _result(model, colour, score, **more):
    """What every task returns: a head that looks to the front and one from either side."""
    colour = colour if model.adapter is not None else np.array(GREY)
    images = {"image": cartoon(colour, 0.0, 0.0)}
    images |= {f"view_{i}": cartoon(colour, yaw, 0.0) for i, yaw in enumerate((-0.3, 0.3))}
    figures = {"id_sim": score, "perceptual": 1 - score, "seconds": 0.2} | more.pop("figures", {})
    ws = torch.zeros(2, 8)
    ws[0, :3] = torch.as_tensor(np.array(colour, np.float32))
    images |= more.pop("images", {})
    return TaskResult(images, figures, ws, torch.zeros(25), **more)


def invert(model, colour, score, steps=None, tuning_steps=0):
    return _result(model, colour, score)


def inpaint(model, colour, score, mask=None, region="centre", steps=None):
    if isinstance(mask, str):
        mask = np.asarray(Image.open(mask).convert("L")) > 127
    share = 0.25 if mask is None else float(mask.mean())
    masked = cartoon(colour, 0.0, 0.0).copy()
    masked[40:80, 40:80] = 128
    return _result(model, colour, score, images={"masked": masked}, extra={"masked_share": share})


def upscale(model, colour, score, size=None, steps=None):
    small = cartoon(colour, 0.0, 0.0, 16).repeat(8, 0).repeat(8, 1)
    extra = {} if size else {"note": "No face was found, so all of it was taken."}
    figures = {"side": float(size or 24), "lanczos_id_sim": 0.4}
    return _result(
        model, colour, score, images={"input": small, "lanczos": small}, figures=figures, extra=extra
    )


def interpolate(model, colour, score, start=None, end=None, steps=10):
    frames = tuple(
        cartoon(colour if model.adapter else GREY, 0.3 - 0.6 * i / steps, 0.0) for i in range(steps)
    )
    ends = [each if isinstance(each, int) else None for each in (start, end)]
    t = np.linspace(0, 1, steps)
    extra = {"t": t.tolist(), "id_sims": (score + 0.1 * np.abs(t - 0.5)).tolist(), "ends": ends}
    images = {"image": np.concatenate(frames, 1)}
    return _result(model, colour, score, images=images, frames=frames, extra=extra)


def synthesize(model, colour, score, count=6, seed=0, rule="dirichlet", strength=1.0):
    frames = tuple(cartoon(colour if model.adapter else GREY, 0.1 * (i % 5 - 2), 0.0) for i in range(count))
    figures = {"diversity": 0.1 * strength, "diversity_std": 0.01}
    return _result(model, colour, score, figures=figures, frames=frames, extra={"rule": rule})


def edit(model, colour, score, attribute="smile", strength=1.0, policy="project", steps=None):
    frames = tuple(cartoon(colour if model.adapter else GREY, 0.0, 0.1 * s) for s in STRENGTHS)
    sims = [score - 0.1 * abs(s) for s in STRENGTHS]
    extra = {"strengths": STRENGTHS, "id_sims": sims, "scores": STRENGTHS, "attribute": attribute}
    figures = {"score": strength}
    return _result(model, colour, score, figures=figures, frames=frames, extra=extra | {"policy": policy})


TASKS = {task.__name__: task for task in (invert, inpaint, upscale, interpolate, synthesize, edit)}


def edited(name, adapter, latents, attribute, strength, policy):
    return {side: cartoon(ws[0, :3].tolist(), 0.0, 0.2 * strength) for side, (ws, _) in latents.items()}


def region_mask(face, region):
    mask = np.zeros((512, 512), bool)
    top = {"centre": 180, "eyes": 190, "nose": 240, "mouth": 320, "lower face": 280}[region]
    mask[top : top + 120, 160:352] = True
    return mask


def depths(name, adapter, anchor, batches):
    for yaws, pitches in batches:
        row = np.stack([np.stack([cartoon((250, 220, 60), yaw, pitch) for yaw in yaws]) for pitch in pitches])
        yield {"pretrained": row, "personalized": row}


def export(prior, ws=None, formats=(), out="", progress=None, anchor=0, frames=60, **options):
    """Real files, so that the page shows them: a pyramid, a short film, a picture."""
    ticker = Ticker("mesh", 10, progress)
    for step in range(1, 11):
        time.sleep(STEP_SECONDS)
        if not ticker.tick(step):
            return {}
    colour = ws[0, :3].tolist() if prior.adapter is not None else GREY
    made = {}
    for kind in formats:
        path = made[kind] = Path(out) / f"face.{kind}"
        if kind in ("glb", "ply"):
            import trimesh

            from my3dgen.tasks.mesh import Mesh, write_mesh

            ball = trimesh.creation.icosphere(subdivisions=3, radius=0.3)
            colours = np.tile(np.array(colour, np.uint8), (len(ball.vertices), 1))
            write_mesh(Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), colours), path)
        elif kind == "mp4":
            from my3dgen.tasks.video import write_video

            write_video(path, [cartoon(colour, 0.05 * i, 0.0) for i in range(6)])
        else:
            Image.fromarray(cartoon(colour, 0.0, 0.0)).save(path)
    return made


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
        "full_fine_tuning",
        "load_adapter",
        "view_grid",
        "compare",
        "export",
    ):
        setattr(my3dgen, name, getattr(sys.modules[__name__], name))
    for name in ("edited", "region_mask", "depths"):
        setattr(compute, name, getattr(sys.modules[__name__], name))
    compute.compare_people = lambda faces: faces
    compute.likeness = lambda *_: {"photos": 0.8, "pretrained": 0.45, "personalized": 0.7}
    priors.default = lambda: "heads"
