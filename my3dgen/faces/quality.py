"""Is a photo good enough? One clear sentence for whatever is wrong: the number and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from my3dgen import cameras
from my3dgen.faces.face import Face


@dataclass(frozen=True)
class QualityLimits:
    """Where a photo is refused and where it is only warned about."""

    refuse_width: float = 56.0  # the face's width in photo pixels
    warn_width: float = 150.0
    refuse_sharpness: float = 4.0  # see `sharpness`; sharp photos have more than 100
    warn_sharpness: float = 20.0
    refuse_dark: float = 18.0  # mean brightness of the face, 0..255
    warn_dark: float = 38.0
    refuse_bright: float = 246.0
    warn_bright: float = 228.0
    refuse_cut: float = 0.15  # part of the face that lies outside the photo
    warn_cut: float = 0.02
    refuse_border: float = 0.65  # part of the crop that lies outside the photo
    warn_border: float = 0.25
    refuse_yaw: float = 0.9  # radians the head is turned to a side
    warn_yaw: float = 0.6
    refuse_pitch: float = 0.8  # radians the head is raised or lowered
    warn_pitch: float = 0.5
    stranger_ratio: float = 0.4  # a likeness below this part of the set's usual one ...
    stranger_gap: float = 0.2  # ... and lower by this much is another person
    few_photos: int = 5  # fewer usable photos than this are warned about
    many_photos: int = 50  # more than this only take longer


@dataclass(frozen=True)
class Verdict:
    """refused: the gravest reason, or None. warnings: everything else worth saying."""

    refused: str | None
    warnings: tuple[str, ...]


def judge(face: Face, photo_scale: float, limits: QualityLimits | None = None) -> Verdict:
    """Check one aligned face; photo_scale is crop pixels per photo pixel."""
    limits = limits or QualityLimits()
    checks = (_check_width, _check_cut, _check_angle, _check_light, _check_sharpness)
    refusals, warnings = [], []
    for check in checks:
        grave, sentence = check(face, photo_scale, limits)
        if sentence:
            (refusals if grave else warnings).append(sentence)
    return Verdict(refusals[0] if refusals else None, tuple(warnings))


Finding = tuple[bool, str]  # (refuse, sentence); an empty sentence means that all is well


def _grade(bad: bool, poor: bool, sentence: str) -> Finding:
    return bad, sentence if bad or poor else ""


def _check_width(face: Face, photo_scale: float, limits: QualityLimits) -> Finding:
    width = face_width(face.landmarks) / photo_scale
    bad = width < limits.refuse_width
    floor = limits.refuse_width if bad else limits.warn_width
    need = "are needed" if bad else "are better"
    return _grade(
        bad,
        width < limits.warn_width,
        f"The face is only {width:.0f} pixels wide; at least {floor:.0f} {need}, so come closer or use "
        "the original photo.",
    )


def _check_cut(face: Face, photo_scale: float, limits: QualityLimits) -> Finding:
    missing = float((~face.valid[face_mask(face.landmarks, face.valid.shape[0])]).mean())
    if missing > limits.warn_cut:
        return _grade(
            missing > limits.refuse_cut,
            True,
            f"The photo's border cuts off {missing:.0%} of the face; use one that shows the whole head.",
        )
    border = float((~face.valid).mean())
    return _grade(
        border > limits.refuse_border,
        border > limits.warn_border,
        f"{border:.0%} of the standard crop lies outside the photo; leave more room around the head.",
    )


def _check_angle(face: Face, photo_scale: float, limits: QualityLimits) -> Finding:
    yaw, pitch, _ = cameras.angles(face.camera)
    side = "left" if yaw < 0 else "right"  # a camera on the person's left sees a head turned to the right
    upright = "up" if pitch < 0 else "down"
    if abs(yaw) > limits.warn_yaw:
        return _grade(
            abs(yaw) > limits.refuse_yaw,
            True,
            f"The head is turned {np.degrees(abs(yaw)):.0f} degrees to its {side}; turn it less than "
            f"{np.degrees(limits.warn_yaw):.0f} degrees from the camera.",
        )
    return _grade(
        abs(pitch) > limits.refuse_pitch,
        abs(pitch) > limits.warn_pitch,
        f"The face looks {np.degrees(abs(pitch)):.0f} degrees {upright} from the camera; hold the camera at "
        "eye level.",
    )


def _check_light(face: Face, photo_scale: float, limits: QualityLimits) -> Finding:
    brightness = float(cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)[_seen(face)].mean())
    if brightness < limits.warn_dark:
        return _grade(
            brightness < limits.refuse_dark,
            True,
            f"The face is too dark (mean brightness {brightness:.0f} of 255); take the photo in more light.",
        )
    return _grade(
        brightness > limits.refuse_bright,
        brightness > limits.warn_bright,
        f"The face is too bright (mean brightness {brightness:.0f} of 255); take the photo in softer light.",
    )


def _check_sharpness(face: Face, photo_scale: float, limits: QualityLimits) -> Finding:
    value = sharpness(face)
    return _grade(
        value < limits.refuse_sharpness,
        value < limits.warn_sharpness,
        f"The face is too blurred (sharpness {value:.0f}; good photos have over 100); hold the camera still, "
        "focus on the face, and use the original photo.",
    )


def sharpness(face: Face) -> float:
    """Variance of the Laplacian of the face at 256 pixels, in thousandths of its contrast (variance).

    Smooth rendered faces have 250 and more, a Gaussian blur of 3 pixels of 512 leaves about 20, of 6
    pixels about 4. What rounding to 8 bits adds is taken off.
    """
    grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    inside = cv2.erode(_seen(face).astype(np.uint8), np.ones((5, 5), np.uint8))[::2, ::2] > 0
    if inside.sum() < 100:
        return 0.0
    rounding = 1.7
    edges = cv2.Laplacian(half.astype(np.float32), cv2.CV_32F)[inside].var()
    contrast = max(float(half[inside].astype(np.float32).var()), 1.0)
    return float(max(edges - rounding, 0.0) / contrast * 1000.0)


def _seen(face: Face) -> np.ndarray:
    """bool [512, 512]: the inner face, where it lies on the photo."""
    mask = hull_mask(face.landmarks[17:], face.valid.shape[0]) & face.valid
    return mask if mask.any() else face.valid


def face_width(landmarks: np.ndarray) -> float:
    """Size of the face in the unit of its landmarks [68, 2]: the longer side of their box."""
    return float((landmarks.max(0) - landmarks.min(0)).max())


def face_mask(landmarks: np.ndarray, size: int) -> np.ndarray:
    """bool [size, size]: contour and forehead."""
    up = 0.45 * (landmarks[27] - landmarks[8])  # the forehead is about this much of chin to nasion
    return hull_mask(np.concatenate([landmarks, landmarks[17:27] + up]), size)


def hull_mask(points: np.ndarray, size: int) -> np.ndarray:
    """bool [size, size]: inside the convex hull of points [N, 2]."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points).astype(np.int32)), 1)
    return mask > 0


def no_face(photo: np.ndarray) -> str:
    """Why no face was found in photo uint8 [H, W, 3], as far as the picture tells."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    mean, spread = float(grey.mean()), float(grey.std())
    brightness = f"(mean brightness {mean:.0f} of 255)"
    if mean < 12:
        return f"No face was found: the photo is nearly black {brightness}; take it in more light."
    if mean > 245:
        return f"No face was found: the photo is nearly white {brightness}; take it in softer light."
    if spread < 6:
        return (
            f"No face was found: the photo is one flat colour (contrast {spread:.0f} of 255); choose another."
        )
    return "No face was found; use an upright, sharp photo that shows the whole face from the front."


def strangers(embeddings: np.ndarray, limits: QualityLimits | None = None) -> list[tuple[int, float, float]]:
    """Who differs from the rest: unit vectors [N, D] -> (index, likeness to the others, usual likeness).

    A likeness is the median cosine to the others. Fewer than three photos cannot tell who is the stranger.
    """
    limits = limits or QualityLimits()
    count = len(embeddings)
    if count < 3:
        return []
    cosine = embeddings @ embeddings.T
    likeness = np.array([np.median(np.delete(cosine[i], i)) for i in range(count)])
    usual = float(np.median(likeness))
    return [
        (i, float(value), usual)
        for i, value in enumerate(likeness)
        if value < limits.stranger_ratio * usual and usual - value > limits.stranger_gap
    ]


def set_warnings(faces: Sequence[Face], limits: QualityLimits | None = None) -> list[str]:
    """What to say about a set of faces as a whole; empty where it is fine. Refused faces do not count."""
    limits = limits or QualityLimits()
    usable = [face for face in faces if face.refused is None]
    count = len(usable)
    photos = "photo is" if count == 1 else "photos are"
    if count == 0:
        return ["No photo is usable; add sharp, well-lit photos that show the face from the front."]
    sentences = []
    if count < limits.few_photos:
        sentences.append(
            f"Only {count} {photos} usable; {limits.few_photos} to {limits.many_photos} with different "
            "angles, light and expressions give a better likeness."
        )
    if count > limits.many_photos:
        sentences.append(
            f"{count} {photos} usable; more than {limits.many_photos} take longer and gain little, so keep "
            "the best."
        )
    # of cats nobody knows the side they show
    yaws = [cameras.angles(f.camera)[0] for f in usable if f.camera is not None and f.kind == "person"]
    if len(yaws) >= limits.few_photos and np.ptp(yaws) < 0.15:
        sentences.append(
            f"All photos show the same side of the face (within {np.degrees(np.ptp(yaws)):.0f} degrees); "
            "add some with the head turned 15 to 30 degrees either way."
        )
    return sentences
