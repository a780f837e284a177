"""Where the faces are and their 68 landmarks: dlib's built-in HOG detector and our own predictor, offline.

Positions are continuous pixels of the photo: pixel i covers i..i+1.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import lru_cache

import cv2
import dlib
import numpy as np

from my3dgen.assets import asset
from my3dgen.errors import My3DGenError
from my3dgen.faces.face import mirror_landmarks


@dataclass(frozen=True)
class DetectOptions:
    """How hard to look for faces and how steadily to read their landmarks."""

    first_side: int = 640  # longest side of the picture that is searched first, pixels
    second_side: int = 1280  # searched where the first finds nothing: faces down to 80 / 1280 of the side
    third_side: int = 2560  # the last try, for faces in a large photo
    border: float = 0.35  # a face that fills the photo is found with this much border added
    reads: int = 5  # predictions from slightly moved boxes, on the picture and its mirror image (at most 9)
    rounds: int = 2  # each round starts from a box around the landmarks of the round before
    jitter: float = 0.03  # how far the boxes move and grow, in box widths
    patch_box: float = 312.0  # width of the face's box in the picture that the predictor sees


# scores of upright faces mostly lie above it, of those upside down (in 84 photos) at 0.64 and below
SURE = 1.0


@dataclass(frozen=True)
class Detection:
    """One face as the detector found it."""

    box: np.ndarray  # float [4] left, top, right, bottom
    score: float  # dlib's confidence, > 0

    @property
    def width(self) -> float:
        return float(self.box[2] - self.box[0])


# Box moves (x, y, growth) in units of `jitter`, the first at rest; always the same, so nothing is random.
_MOVES = (
    (0, 0, 0),
    (1, 0, 1),
    (-1, 0, 1),
    (0, 1, -1),
    (0, -1, -1),
    (1, 1, 0),
    (-1, 1, 0),
    (1, -1, 0),
    (-1, -1, 0),
)

_LOCK = threading.Lock()  # dlib's detector keeps its working memory inside: one search at a time


@lru_cache(maxsize=1)
def _detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


def _predictor() -> dlib.shape_predictor:
    return _load_predictor(os.environ.get("MY3DGEN_LANDMARKS") or str(asset("landmarks68.dat")))


def require_predictor() -> None:
    """Raises My3DGenError where the landmark predictor is missing or damaged."""
    _predictor()


@lru_cache(maxsize=2)
def _load_predictor(path: str) -> dlib.shape_predictor:
    try:
        predictor = dlib.shape_predictor(path)
        marks = predictor(np.zeros((64, 64, 3), np.uint8), dlib.rectangle(8, 8, 56, 56)).num_parts
    except RuntimeError:
        raise My3DGenError(
            f"The landmark predictor {path} is missing or damaged; restore it from the repository or name "
            "another dlib file in MY3DGEN_LANDMARKS."
        ) from None
    if marks != 68:
        raise My3DGenError(
            f"The landmark predictor {path} gives {marks} points; one for 68 points is needed."
        )
    return predictor


def detect(photo: np.ndarray, options: DetectOptions | None = None) -> list[Detection]:
    """The faces of photo uint8 [H, W, 3], largest first; empty where there are none."""
    options = options or DetectOptions()
    longest = max(photo.shape[:2])
    found = _search(photo, options.first_side, longest)
    if not found:
        found = _search(photo, options.second_side, longest)
    if not found:
        found = _search_with_border(photo, options)
    if not found and longest > 1.2 * options.second_side:
        found = _search(photo, options.third_side, longest)
    return _distinct(found)


def upside_down(photo: np.ndarray, found: list[Detection], options: DetectOptions | None = None) -> bool:
    """Whether a photo in which `detect` found these faces, or none, stands on its head.

    The detector also sees faces in what is turned by half a turn, but is less sure of them. Only where it is unsure
    the photo is turned and searched once more.
    """
    best = max((detection.score for detection in found), default=0.0)
    if best >= SURE:
        return False
    turned = detect(np.ascontiguousarray(photo[::-1, ::-1]), options)
    # it is the same face: much smaller ones are chance finds, inside one that is only tilted
    width = max((detection.width for detection in found), default=0.0)
    return max((each.score for each in turned if each.width > 0.5 * width), default=0.0) > best


def _distinct(found: list[Detection]) -> list[Detection]:
    """Largest first, without second boxes on the same face."""
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda detection: -detection.width):
        middle = (detection.box[:2] + detection.box[2:]) / 2
        if not any((other.box[:2] < middle).all() and (middle < other.box[2:]).all() for other in kept):
            kept.append(detection)
    return kept


def _search(photo: np.ndarray, side: int, longest: int) -> list[Detection]:
    """Search at a longest side of `side`, never enlarging more than twice."""
    scale = min(side / longest, 2.0)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    if scale != 1.0:
        size = tuple(max(1, round(length * scale)) for length in grey.shape[::-1])
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    with _LOCK:
        boxes, scores, _ = _detector().run(grey, 0, 0.0)
    # dlib's boxes name their last pixel, hence the + 1
    edges = [np.array([b.left(), b.top(), b.right() + 1, b.bottom() + 1]) / scale for b in boxes]
    return [Detection(edge, float(score)) for edge, score in zip(edges, scores, strict=True)]


def _search_with_border(photo: np.ndarray, options: DetectOptions) -> list[Detection]:
    height, width = photo.shape[:2]
    border = int(options.border * max(height, width))
    padded = cv2.copyMakeBorder(photo, border, border, border, border, cv2.BORDER_REPLICATE)
    found = _search(padded, options.first_side, max(padded.shape[:2]))
    return [Detection(detection.box - border, detection.score) for detection in found]


def landmarks(photo: np.ndarray, detection: Detection, options: DetectOptions | None = None) -> np.ndarray:
    """The 68 landmarks of one detected face in photo uint8 [H, W, 3]: float32 [68, 2].

    One prediction trembles with the box it starts from, and the detector's boxes come in coarse steps
    of size. So several predictions from moved boxes are averaged, and repeated around their own result.
    """
    options = options or DetectOptions()
    box = detection.box.astype(np.float64)
    for _ in range(options.rounds):
        points = _predict(photo, box, options)
        box = box_of(points)
    return points.astype(np.float32)


def box_of(points: np.ndarray) -> np.ndarray:
    """The box [4] that the detector typically puts around landmarks [68, 2].

    Middle and size follow all inner landmarks, so that no single wrong one leads the next round astray;
    measured on rendered people.
    """
    inner = points[17:]
    middle = inner.mean(0)
    half = 1.61 * np.sqrt(((inner - middle) ** 2).sum(1).mean())
    return np.concatenate([middle - half, middle + half])


def _predict(photo: np.ndarray, box: np.ndarray, options: DetectOptions) -> np.ndarray:
    """The trimmed mean of predictions around one box, on the picture and on its mirror image."""
    patch, scale, corner = _patch(photo, box, options)
    patch = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)  # as the predictor was trained
    centre, width = ((box[:2] + box[2:]) / 2 - corner) * scale, (box[2] - box[0]) * scale
    flipped = np.ascontiguousarray(patch[:, ::-1])
    across = patch.shape[1]
    reads = _reads(patch, centre, width, options)
    for points in _reads(flipped, np.array([across - centre[0], centre[1]]), width, options):
        reads.append(mirror_landmarks(points, across))
    ordered = np.sort(np.array(reads, np.float64), axis=0)
    trim = len(ordered) // 4
    return ordered[trim : len(ordered) - trim].mean(0) / scale + corner


def _reads(patch: np.ndarray, centre: np.ndarray, width: float, options: DetectOptions) -> list[np.ndarray]:
    """Predictions [68, 2] from boxes moved a little about the given one."""
    reads = []
    for *move, growth in _MOVES[: options.reads]:
        middle = centre + np.array(move) * options.jitter * width
        half = width * (1.0 + growth * options.jitter) / 2
        left, top, right, bottom = (round(value) for value in (*(middle - half), *(middle + half)))
        shape = _predictor()(patch, dlib.rectangle(left, top, right - 1, bottom - 1))
        # the predictor was taught continuous positions, so no half pixel is added
        reads.append(np.array([(part.x, part.y) for part in shape.parts()]))
    return reads


def _patch(
    photo: np.ndarray, box: np.ndarray, options: DetectOptions
) -> tuple[np.ndarray, float, np.ndarray]:
    """The face's surroundings at the predictor's usual size: (patch, its scale, its corner in the photo)."""
    width = max(float(box[2] - box[0]), 1.0)
    scale = min(options.patch_box / width, 4.0)
    reach = 0.6 * width
    low = np.floor(box[:2] - reach).astype(int)
    high = np.ceil(box[2:] + reach).astype(int)
    height, length = photo.shape[:2]
    inside_low = np.clip(low, 0, [length - 1, height - 1])
    inside_high = np.clip(high, inside_low + 1, [length, height])
    patch = photo[inside_low[1] : inside_high[1], inside_low[0] : inside_high[0]]
    before, after = inside_low - low, high - inside_high
    patch = cv2.copyMakeBorder(
        patch, int(before[1]), int(after[1]), int(before[0]), int(after[0]), cv2.BORDER_REPLICATE
    )
    size = (round(patch.shape[1] * scale), round(patch.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(patch, size, interpolation=how), scale, low.astype(np.float64)
