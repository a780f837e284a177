"""A person's folder on disk: the earlier release's layout, so its data sets work here and ours there.

`image_<i>.png` (512 px crop), `image_<i>_latent.npy` ((1, L, w_dim)) and `dataset.json`
({"labels": [[file, [25 numbers]], ...]}). `my3dgen.json` adds what our crops know besides (source, landmarks,
warnings), which prior the latents are of, and `image_<i>_valid.npy` the pixels inside the photo, as packed bits; both
may be missing. The mask is no picture, or loaders that take every picture of a folder would take it for a face.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from my3dgen.errors import My3DGenError
from my3dgen.faces import Face
from my3dgen.faces.pose import mean_landmarks
from my3dgen.faces.read import open_picture
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.objective import usable
from my3dgen.writing import replacing, write_picture

EXTRAS = "my3dgen.json"
FARTHEST = 1e4  # pixels of a crop; what is farther is no landmark, and far more than any number of a camera
MOST_NUMBERS = 2**20  # of an array that is read: a latent has some thousands, a mask 2 ** 15 bytes
_OURS = re.compile(r"image_\d+(\.png|_valid\.(npy|png)|_latent\.npy)")


def write_faces(folder: str | Path, faces: Sequence[Face]) -> list[str]:
    """Write accepted faces; returns their file names in order. What was prepared here before is replaced, latents too.

    Raises:
        My3DGenError: where no face can be used, or the folder holds pictures of such names that are not ours.
    """
    folder, faces = require_ours(folder), usable(faces)
    folder.mkdir(parents=True, exist_ok=True)
    # first of all, or an interruption would leave new crops under the cameras of those before
    (folder / "dataset.json").unlink(missing_ok=True)
    for old in _earlier(folder):
        old.unlink()
    labels, extras = [], []
    for i, face in enumerate(faces):
        name = f"image_{i}.png"
        write_picture(face.image, folder / name)
        if not face.valid.all():
            with replacing(_mask_of(folder, name)) as file:
                np.save(file, np.packbits(face.valid, axis=1))
        labels.append([name, [float(x) for x in face.camera]])
        extras.append(
            {
                "image": name,
                "source": Path(face.source).name,
                "landmarks": face.landmarks.tolist(),
                "camera": labels[-1][1],  # as prepared: `write_anchors` replaces that of `dataset.json`
                "warnings": list(face.warnings),
            }
        )
    _write_json(folder / EXTRAS, {"faces": extras})
    _write_json(folder / "dataset.json", {"labels": labels})  # last: what has it is whole
    return [name for name, _ in labels]


def require_ours(folder: str | Path) -> Path:
    """The folder, where crops may be written into it.

    Raises:
        My3DGenError: where that would overwrite pictures that `write_faces` did not write.
    """
    folder = Path(folder)
    # latents of a foreign data set are noted in such a file, too; what was prepared here names its faces
    try:
        ours = "faces" in _extras(folder)
    except My3DGenError:  # damaged: nobody knows whose they are
        ours = False
    if folder.is_dir() and not ours and (strangers := [*_earlier(folder), *folder.glob("dataset.json")]):
        raise My3DGenError(
            f"{folder} already holds {strangers[0].name}, which is not from here; name another folder for the crops"
        )
    return folder


def _earlier(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))


def write_anchors(
    folder: str | Path, anchors: Anchors, prior_sha256: str | None = None, rows: Sequence[int] | None = None
) -> None:
    """Write latents beside the images, and the refined cameras into `dataset.json`.

    prior_sha256: of the prior that the latents are of, for `read_anchors`.
    rows: the images that they are of, by their place in `dataset.json`; the others keep theirs. None: all of them.
    """
    folder = Path(folder)
    labels = _labels(folder)
    rows = range(len(labels)) if rows is None else rows
    if len(rows) != len(anchors.ws):
        raise My3DGenError(
            f"{folder} holds {len(rows)} images but there are {len(anchors.ws)} latents; prepare it anew"
        )
    paths = [_latent_of(folder, labels[row][0]) for row in rows]
    for path in paths:  # first of all, or an interruption would leave two priors' latents beside each other
        path.unlink(missing_ok=True)
    for row, camera in zip(rows, anchors.cameras, strict=True):
        labels[row] = [labels[row][0], camera.tolist()]
    _write_json(folder / "dataset.json", {"labels": labels})
    _write_json(folder / EXTRAS, _extras(folder) | {"latents_of": prior_sha256})
    for path, w in zip(paths, anchors.ws, strict=True):  # last: what has a latent has its camera, too
        with replacing(path) as file:
            np.save(file, w[None].float().cpu().numpy())


def read_faces(folder: str | Path) -> list[Face]:
    """The faces of a folder, ours or the earlier release's.

    Raises:
        My3DGenError: where the folder is no such data set, naming what is missing.
    """
    folder = Path(folder)
    labels = _labels(folder)
    extras = _extras_of_images(folder, [name for name, _ in labels])
    faces = []
    for name, camera in labels:
        extra = extras.get(name, {})
        image = np.asarray(_open(folder / name).convert("RGB").resize((512, 512), Image.LANCZOS))
        valid = _read_valid(folder, name)
        camera = np.asarray(extra.get("camera", camera), np.float32)
        if "landmarks" in extra:
            landmarks = np.asarray(extra["landmarks"], np.float32)
        else:  # the earlier release keeps none: where the mean face's would lie
            landmarks = mean_landmarks(camera)
        if not (np.abs(landmarks) < FARTHEST).all():
            raise My3DGenError(
                f"the camera of {name} in {folder} does not see a face in front of it; it must be EG3D's 25 numbers"
            )
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


def read_anchors(
    folder: str | Path, num_ws: int, w_dim: int, prior_sha256: str | None = None
) -> Anchors | None:
    """The latents of a folder, or None where one is missing.

    prior_sha256: of the prior they are for. The earlier release's folders do not say which one that is.

    Raises:
        My3DGenError: where a latent is unreadable or has another shape than the prior's [L, w_dim], or they are said to be
            another prior's.
    """
    labels = _labels(Path(folder))
    ws = read_latents(folder, num_ws, w_dim, prior_sha256)
    if any(w is None for w in ws):
        return None
    cameras = torch.tensor([c for _, c in labels], dtype=torch.float32)
    return Anchors(torch.stack(ws), cameras, tuple(name for name, _ in labels))


def read_latents(
    folder: str | Path, num_ws: int, w_dim: int, prior_sha256: str | None = None
) -> list[torch.Tensor | None]:
    """The latent [L, w_dim] of each image of a folder, None where it is missing; else as `read_anchors`."""
    folder = Path(folder)
    ws = []
    for name, _ in _labels(folder):
        path = _latent_of(folder, name)
        if not path.is_file():
            ws.append(None)
            continue
        w = _read_array(path, "delete it to project anew").astype(np.float32)
        w = w[0] if w.ndim == 3 else w
        if w.shape != (num_ws, w_dim) or not np.isfinite(w).all():
            raise My3DGenError(
                f"{path} has shape {list(w.shape)}, this prior needs [{num_ws}, {w_dim}] of finite numbers; delete it to "
                "project anew"
            )
        ws.append(torch.from_numpy(w))
    of = _extras(folder).get("latents_of")
    if any(w is not None for w in ws) and None not in (of, prior_sha256) and of != prior_sha256:
        raise My3DGenError(
            f"the latents in {folder} are another prior's; run `python -m my3dgen project` with this one to replace them, "
            "or prepare the photos into another folder"
        )
    return ws


def _latent_of(folder: Path, image: str) -> Path:
    return folder / f"{Path(image).stem}_latent.npy"


def _mask_of(folder: Path, image: str, ending: str = "npy") -> Path:
    return folder / f"{Path(image).stem}_valid.{ending}"


def _read_valid(folder: Path, image: str) -> np.ndarray:
    """bool [512, 512]: the pixels of a crop that lie inside its photo."""
    path, picture = _mask_of(folder, image), _mask_of(folder, image, "png")
    if path.is_file():
        bits = _read_array(path, "prepare the folder anew")
        valid = np.unpackbits(bits, axis=1) > 0 if bits.dtype == np.uint8 and bits.ndim == 2 else bits
    elif picture.is_file():  # of the version before
        path, valid = picture, np.asarray(_open(picture).convert("L")) > 127
    else:
        return np.ones((512, 512), bool)
    if valid.shape != (512, 512):
        raise My3DGenError(f"{path} is not a mask of 512 x 512 pixels; prepare the folder anew")
    return valid


def _read_array(path: Path, remedy: str) -> np.ndarray:
    """An array of numbers from a file that anybody may have written."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
            if dtype.kind not in "fiub" or math.prod(shape) > MOST_NUMBERS:
                raise ValueError(f"{dtype} {shape}")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a mangled header may raise nearly anything
        raise My3DGenError(f"{path} is not a small array of numbers; {remedy}") from error


def _labels(folder: Path) -> list:
    path = folder / "dataset.json"
    if not path.is_file():
        raise My3DGenError(
            f"{folder} holds no dataset.json; run `python -m my3dgen prepare PHOTO... --out {folder}` first"
        )
    labels = _read_json(path).get("labels")
    labels = list(labels.items()) if isinstance(labels, dict) else labels
    if not (isinstance(labels, list) and labels and all(map(_is_label, labels))):
        raise My3DGenError(f'{path} must list [file, [25 numbers]] under "labels"; prepare the folder anew')
    for name, _ in labels:
        if Path(name).name != name:
            raise My3DGenError(f"{path} names {name!r}; images must lie in the folder itself")
    return labels


def _is_label(row) -> bool:
    """Whether a row of `dataset.json` is [file, [25 finite numbers]]."""
    if not isinstance(row, (list, tuple)) or len(row) != 2 or not isinstance(row[0], str):
        return False
    return _is_numbers(row[1], (25,))


def _extras(folder: Path) -> dict:
    """What `my3dgen.json` holds; empty where there is none."""
    return _read_json(folder / EXTRAS) if (folder / EXTRAS).is_file() else {}


def _extras_of_images(folder: Path, names: Sequence[str]) -> dict[str, Mapping]:
    """What our crops know besides, by image. Files of the version before do not name it: there the order counts."""
    rows = _extras(folder).get("faces", [])
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    for row in rows:
        texts = [row.get("image", ""), row.get("source", ""), *_list(row.get("warnings", []))]
        shapes = {"camera": (25,), "landmarks": (68, 2)}
        if not (
            all(isinstance(text, str) for text in texts)
            and all(_is_numbers(row[name], shape) for name, shape in shapes.items() if name in row)
        ):
            raise My3DGenError(f"{folder / EXTRAS} is damaged; prepare the folder anew")
    return {row.get("image", names[i] if i < len(names) else ""): row for i, row in enumerate(rows)}


def _list(value) -> list:
    """A list as it is; anything else in one, to be judged there."""
    return value if isinstance(value, list) else [value]


def _is_numbers(value, shape: tuple[int, ...]) -> bool:
    """Whether nested lists hold numbers of a size that cameras and landmarks may have, so many."""
    if not shape:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < FARTHEST
    return (
        isinstance(value, list)
        and len(value) == shape[0]
        and all(_is_numbers(each, shape[1:]) for each in value)
    )


def _write_json(path: Path, value: dict) -> None:
    with replacing(path) as file:
        file.write_text(json.dumps(value))


def _read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:  # anybody may have written it
        raise My3DGenError(f"{path} is not readable JSON; prepare the folder anew") from error
    return value if isinstance(value, dict) else {}


def _open(path: Path) -> Image.Image:
    try:
        image = open_picture(path)
        image.load()
        return image
    except Exception as error:  # a decoder that trips over a mangled file may raise nearly anything
        raise My3DGenError(
            f"{path} is missing or not a picture; prepare the folder anew ({error})"
        ) from error
