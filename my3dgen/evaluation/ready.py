"""Results made beforehand: what every task makes of one of an example person's held-out photos, in small files.

NAME/ready/ holds for each task NAME.jpg, its pictures in one row, and in ready.json where each lies, the figures, and
which adapter made them: with another adapter they are not shown. edit.npz has the latents, so that the attribute
sliders move at once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from my3dgen import layout
from my3dgen.assets import sha256

MOST_BYTES = 60_000  # of one row of pictures
QUALITIES = (90, 85, 80, 74, 68, 60, 50)  # of a JPEG; the first that is small enough
SIDES = ("pretrained", "personalized")
FRAMES = 6  # pictures of a strip
FIGURES = ("id_sim", "perceptual", "side", "lanczos_id_sim", "diversity", "diversity_std")
EXTRA = ("t", "id_sims", "ends", "attribute", "policy", "strengths", "scores", "masked_share", "rule")


@dataclass(frozen=True)
class Recipe:
    """One task and what is kept of it."""

    options: dict[str, Any]
    images: tuple[str, ...] = ("image",)  # pictures of either side
    shared: tuple[str, ...] = ()  # pictures that are the same for both, taken from the pretrained side
    frames: bool = False  # whether there is a strip
    size: int = 256  # pixels of a picture
    frame_size: int = 128  # pixels of a strip's picture


# The choices a page starts with.
RECIPES = {
    "invert": Recipe({}),
    "inpaint": Recipe({"region": "centre"}, shared=("masked",)),
    "upscale": Recipe({"size": 32}, shared=("input", "lanczos")),
    "interpolate": Recipe({"steps": FRAMES}, images=(), frames=True),
    "synthesize": Recipe({"count": FRAMES}, images=(), frames=True),
    "edit": Recipe({"attribute": "smile", "strength": 0.0}, frames=True, size=192, frame_size=112),
}
EDITED = 1.0  # strength of the picture that stands for an edit


@dataclass(frozen=True, eq=False)
class Side:
    """What is left of a TaskResult, under the same names."""

    images: dict[str, np.ndarray]  # uint8 [H, W, 3]
    figures: dict[str, float]
    frames: tuple[np.ndarray, ...]  # uint8 [H, W, 3] each
    extra: dict[str, Any]
    ws: Any = None  # Tensor [L, w_dim]; only of an edit
    camera: Any = None  # Tensor [25]; only of an edit


@dataclass(frozen=True, eq=False)
class Ready:
    """What is left of a Comparison, under the same names."""

    input: np.ndarray | None
    pretrained: Side
    personalized: Side
    photo: str | None = None  # name of the photo's file; None where the task took none


def make(
    prior, folder: str = "examples", names: Sequence[str] = (), steps: int | None = None
) -> dict[str, dict]:
    """Write NAME/ready/ for every person of `folder` who has an adapter.

    names: only these people; none: all of them. steps: of the fits; None takes the prior's default.
    Returns {name: {task: bytes}}.
    """
    done = {}
    for place in sorted(path.parent for path in Path(folder).glob(f"*/{layout.ADAPTER}")):
        if not names or place.name in names:
            done[place.name] = _make_one(prior, place, steps)
            print(place.name, done[place.name], flush=True)
    return done


def _make_one(prior, place: Path, steps: int | None) -> dict[str, int]:
    from my3dgen.cameras import angles
    from my3dgen.evaluation.metrics import identity_similarity
    from my3dgen.evaluation.protocol import read_person
    from my3dgen.personal.adapter import load_adapter
    from my3dgen.tasks import compare
    from my3dgen.tasks.compare import NEEDS_PHOTO

    person, me = read_person(place), prior.personalized(load_adapter(place / layout.ADAPTER))
    # The picture says most where the face is seen from the front.
    frontal = min(person.tests, key=lambda face: abs(float(angles(face.camera)[0])))
    comparisons = {}
    for task, recipe in RECIPES.items():
        needs = task in NEEDS_PHOTO
        options = recipe.options | ({"steps": steps} if needs else {})
        photo = frontal if needs else None
        comparisons[task] = compare(task, prior, me, photo, references=person.references, **options)
    edited, edits = {}, {}
    for side, model in zip(SIDES, (prior, me), strict=True):
        result = getattr(comparisons["edit"], side)
        edited[side] = _edited_picture(model, result)
        likeness = identity_similarity([edited[side]], person.references)
        edits[side] = replace(result, figures=result.figures | {"id_sim": likeness})
    comparisons["edit"] = replace(comparisons["edit"], **edits)
    return write(place, comparisons, edited, Path(frontal.source).name)


def _edited_picture(model, result) -> np.ndarray:
    import torch

    from my3dgen.personal.images import to_uint8
    from my3dgen.tasks import edited

    with torch.no_grad():
        return to_uint8(model.render(edited(model, result.ws, "smile", EDITED), result.camera))


def write(
    place: Path, comparisons: dict[str, Any], edited: dict[str, np.ndarray], photo: str
) -> dict[str, int]:
    """Write comparisons by task into `place`/ready. edited: pictures of the edit at strength EDITED, by side (the edit's
    id_sim is theirs); photo: name of the photo that was used. Returns the bytes of each row of pictures."""
    folder = place / layout.READY
    folder.mkdir(exist_ok=True)
    about: dict[str, Any] = {"adapter": sha256(place / layout.ADAPTER), "photo": photo, "tasks": {}}
    sizes = {}
    for task, comparison in comparisons.items():
        recipe = RECIPES[task]
        tiles = list(_tiles(comparison, recipe, edited if task == "edit" else {}))
        content = _row([picture for _, picture in tiles])
        (folder / f"{task}.jpg").write_bytes(content)
        sizes[task] = len(content)
        sides = {side: _figures(getattr(comparison, side)) for side in SIDES}
        about["tasks"][task] = {"tiles": [[*name, len(picture)] for name, picture in tiles], "sides": sides}
    if "edit" in comparisons:
        results = {side: getattr(comparisons["edit"], side) for side in SIDES}
        arrays = {f"{side}_ws": np.asarray(result.ws, np.float32) for side, result in results.items()}
        arrays |= {
            f"{side}_camera": np.asarray(result.camera, np.float32) for side, result in results.items()
        }
        np.savez(folder / "edit.npz", **arrays)
    (folder / "ready.json").write_text(json.dumps(about) + "\n")
    return sizes


def _tiles(
    comparison: Any, recipe: Recipe, edited: dict[str, np.ndarray]
) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """((side or "", name), picture) for everything that is kept of a comparison; frames are called by number."""
    if comparison.input is not None and "input" not in recipe.shared:
        yield ("", "input"), _shrunk(comparison.input, recipe.size)
    for name in recipe.shared:
        yield ("", name), _shrunk(comparison.pretrained.images[name], recipe.size)
    for side in SIDES:
        result = getattr(comparison, side)
        for name in recipe.images:
            yield (side, name), _shrunk(edited.get(side, result.images[name]), recipe.size)
        if recipe.frames:
            places = np.linspace(0, len(result.frames) - 1, min(FRAMES, len(result.frames)))
            for number, frame in enumerate(places):
                yield (side, str(number)), _shrunk(result.frames[round(float(frame))], recipe.frame_size)


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def _row(pictures: Sequence[np.ndarray]) -> bytes:
    """Square pictures beside each other as one JPEG of at most MOST_BYTES."""
    row = Image.new("RGB", (sum(len(picture) for picture in pictures), max(map(len, pictures))))
    left = 0
    for picture in pictures:
        row.paste(Image.fromarray(picture), (left, 0))
        left += len(picture)
    for quality in QUALITIES:
        buffer = io.BytesIO()
        row.save(buffer, "JPEG", quality=quality, subsampling=0 if quality > 80 else 2)
        if buffer.tell() <= MOST_BYTES:
            break
    return buffer.getvalue()


def _figures(result: Any) -> dict[str, dict[str, Any]]:
    figures = {name: round(float(result.figures[name]), 4) for name in FIGURES if name in result.figures}
    extra = {name: result.extra[name] for name in EXTRA if name in result.extra}
    return {"figures": figures, "extra": extra}


def read(place: Path) -> dict[str, Ready]:
    """What `write` wrote, by task; nothing where there is nothing, or it was made with another adapter."""
    folder = place / layout.READY
    try:
        about = json.loads((folder / "ready.json").read_text())
        adapter = sha256(place / layout.ADAPTER)
    except (OSError, ValueError):
        return {}
    if about["adapter"] != adapter:
        return {}
    return {task: _read_one(folder, task, entry, about["photo"]) for task, entry in about["tasks"].items()}


def _read_one(folder: Path, task: str, entry: dict[str, Any], photo: str) -> Ready:
    with Image.open(folder / f"{task}.jpg") as picture:
        row = np.asarray(picture.convert("RGB"))
    images: dict[str, dict[str, np.ndarray]] = {"": {}, **{side: {} for side in SIDES}}
    left = 0
    for side, name, size in entry["tiles"]:
        images[side][name] = np.ascontiguousarray(row[:size, left : left + size])
        left += size
    latents = _latents(folder / "edit.npz") if task == "edit" else {}
    sides = {}
    for side in SIDES:
        frames = tuple(images[side][name] for name in sorted(filter(str.isdecimal, images[side]), key=int))
        named = {name: each for name, each in images[side].items() if not name.isdecimal()}
        # What both sides share is found where a task's own result has it.
        sides[side] = Side(images[""] | named, frames=frames, **entry["sides"][side], **latents.get(side, {}))
    return Ready(images[""].get("input"), **sides, photo=photo if images[""] else None)


def _latents(path: Path) -> dict[str, dict[str, Any]]:
    import torch

    with np.load(path, allow_pickle=False) as file:
        return {
            side: {name: torch.from_numpy(file[f"{side}_{name}"]) for name in ("ws", "camera")}
            for side in SIDES
        }
