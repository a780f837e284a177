"""A person's folder on disk: the earlier release's layout, so its data sets work here and ours there.

`image_<i>.png` (512 px crop), `image_<i>_latent.npy` ((1, L, w_dim)) and `dataset.json`
({"labels": [[file, [25 numbers]], ...]}). `my3dgen.json` adds what our crops know besides (source, landmarks,
warnings) and `image_<i>_valid.png` the pixels inside the photo; both may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from my3dgen.cameras import project_points
from my3dgen.errors import My3DGenError
from my3dgen.faces import Face
from my3dgen.faces.pose import model
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.objective import usable

EXTRAS = "my3dgen.json"


def write_faces(folder: str | Path, faces: Sequence[Face]) -> list[str]:
    """Write accepted faces; returns their file names in order."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    labels, extras = [], []
    for i, face in enumerate(usable(faces)):
        name = f"image_{i}.png"
        Image.fromarray(face.image).save(folder / name)
        if not face.valid.all():
            Image.fromarray(face.valid).save(folder / f"image_{i}_valid.png")
        labels.append([name, [float(x) for x in face.camera]])
        extras.append(
            {
                "source": Path(face.source).name,
                "landmarks": face.landmarks.tolist(),
                "warnings": list(face.warnings),
            }
        )
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    (folder / EXTRAS).write_text(json.dumps({"faces": extras}))
    return [name for name, _ in labels]


def write_anchors(folder: str | Path, anchors: Anchors) -> None:
    """Write the latents beside the images, and the refined cameras into `dataset.json`."""
    folder = Path(folder)
    labels = _labels(folder)
    if len(labels) != len(anchors.ws):
        raise My3DGenError(
            f"{folder} holds {len(labels)} images but there are {len(anchors.ws)} latents; prepare it anew"
        )
    for (name, _), w in zip(labels, anchors.ws, strict=True):
        np.save(folder / f"{Path(name).stem}_latent.npy", w[None].float().cpu().numpy())
    labels = [[name, c.tolist()] for (name, _), c in zip(labels, anchors.cameras, strict=True)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def read_faces(folder: str | Path) -> list[Face]:
    """The faces of a folder, ours or the earlier release's.

    Raises:
        My3DGenError: where the folder is no such data set, naming what is missing.
    """
    folder = Path(folder)
    labels = _labels(folder)
    extras = _read_json(folder / EXTRAS).get("faces", []) if (folder / EXTRAS).is_file() else []
    faces = []
    for i, (name, camera) in enumerate(labels):
        extra = extras[i] if i < len(extras) else {}
        image = np.asarray(_open(folder / name).convert("RGB").resize((512, 512), Image.LANCZOS))
        mask = folder / f"{Path(name).stem}_valid.png"
        valid = (
            np.asarray(_open(mask).convert("L")) > 127 if mask.is_file() else np.ones(image.shape[:2], bool)
        )
        camera = np.asarray(camera, np.float32)
        if "landmarks" in extra:
            landmarks = np.asarray(extra["landmarks"], np.float32)
        else:  # the earlier release keeps none: where the mean face's would lie
            landmarks = np.asarray(project_points(model()[0], camera), np.float32) * 512
        faces.append(
            Face(
                extra.get("source", name),
                image,
                valid,
                landmarks,
                camera,
                tuple(extra.get("warnings", ())),
                None,
                image[::2, ::2],
            )
        )
    return faces


def read_anchors(folder: str | Path, num_ws: int, w_dim: int) -> Anchors | None:
    """The latents of a folder, or None where one is missing.

    Raises:
        My3DGenError: where a latent has another shape than the prior's [L, w_dim].
    """
    folder = Path(folder)
    labels = _labels(folder)
    ws = []
    for name, _ in labels:
        path = folder / f"{Path(name).stem}_latent.npy"
        if not path.is_file():
            return None
        w = np.load(path, allow_pickle=False)
        w = w[0] if w.ndim == 3 else w
        if w.shape != (num_ws, w_dim):
            raise My3DGenError(
                f"{path} has shape {list(w.shape)}, this prior needs [{num_ws}, {w_dim}]; delete it to project anew"
            )
        ws.append(torch.from_numpy(w.astype(np.float32)))
    cameras = torch.tensor([c for _, c in labels], dtype=torch.float32)
    return Anchors(torch.stack(ws), cameras, tuple(name for name, _ in labels))


def _labels(folder: Path) -> list:
    path = folder / "dataset.json"
    if not path.is_file():
        raise My3DGenError(
            f"{folder} holds no dataset.json; run `python -m my3dgen prepare PHOTO... --out {folder}` first"
        )
    labels = _read_json(path).get("labels")
    labels = list(labels.items()) if isinstance(labels, dict) else labels
    good = isinstance(labels, list) and labels and all(len(row) == 2 and len(row[1]) == 25 for row in labels)
    if not good:
        raise My3DGenError(f'{path} must list [file, [25 numbers]] under "labels"; prepare the folder anew')
    for name, _ in labels:
        if Path(name).name != name:
            raise My3DGenError(f"{path} names {name!r}; images must lie in the folder itself")
    return labels


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise My3DGenError(f"{path} is not readable JSON; prepare the folder anew") from error
    return value if isinstance(value, dict) else {}


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
        return image
    except OSError as error:
        raise My3DGenError(f"{path} is missing or not a picture; prepare the folder anew") from error
