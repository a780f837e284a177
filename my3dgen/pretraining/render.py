"""Draw a synthetic person: image, depth, parts, landmarks, in EG3D's frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from my3dgen.faces.align import STANDARD_FIVE, five_points, place
from my3dgen.pretraining import accessories, hair, light, raster, shading, skinmaps
from my3dgen.pretraining.facekit import MATERIALS, FaceKit, vertex_normals
from my3dgen.pretraining.people import Person

FOCAL, RADIUS = 4.2647, 2.7
WALL_Z = -0.34  # the wall behind everyone, in EG3D's world


@dataclass(frozen=True)
class View:
    """One drawn view. All arrays are [S, S]."""

    image: np.ndarray  # uint8 [S, S, 3]
    depth: np.ndarray  # float32, distance from the camera along the ray
    part: np.ndarray  # uint8, index into facekit.MATERIALS
    landmarks: np.ndarray  # float32 [68, 2] pixels, x right, y down, edges at 0 and S


@dataclass(frozen=True)
class Head:
    """Geometry and light of one person in one photo, in EG3D's world; draw it from any camera."""

    vertices: np.ndarray  # [N, 3]
    faces: np.ndarray
    material: np.ndarray
    canonical: np.ndarray  # [N, 3]
    normals: np.ndarray
    irradiance: np.ndarray
    inside: np.ndarray  # [N] cm inside the hair
    landmarks: np.ndarray  # [68, 3]
    scale: float  # world units a cm


@lru_cache(maxsize=2)
def _frame(kit_id: int, points: bytes) -> tuple[np.ndarray, float]:
    """Rotation [3, 3] (about x) and depth offset that lay the mean head onto the standard points."""
    p = np.frombuffer(points).reshape(5, 3)
    best = None
    for angle in np.linspace(-0.35, 0.35, 141):
        c, s = np.cos(angle), np.sin(angle)
        rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        q = p @ rotation.T
        a, b = q - q.mean(0), STANDARD_FIVE - STANDARD_FIVE.mean(0)
        scale = (a * b).sum() / (a * a).sum()
        error = ((scale * a - b) ** 2).sum()
        if best is None or error < best[0]:
            best = (error, rotation, scale)
    return best[1], best[2]


def build(kit: FaceKit, person: Person) -> Head:
    """Shape, pose-free placement, hair and light of a person."""
    groups = kit.groups
    k = len(person.shape)
    flat = kit.mean.ravel() + person.shape.astype(np.float32) @ kit.identity[:k]
    flat = flat + sag(kit.mean, person.age).ravel()
    neutral = flat.reshape(-1, 3)
    weights = kit.weights(**person.expression)
    on = np.nonzero(weights)[0]
    vertices = (flat + weights[on] @ kit.expression[on]).reshape(-1, 3)
    for side in ("eyeball_left", "eyeball_right"):
        _turn(vertices[slice(*groups[side])], person.gaze)
    landmarks = vertices[kit.landmarks]

    canonical = kit.mean
    inside = hair.growth(canonical, person.hairline, person.bald).astype(np.float32)
    skin_end = groups["head_and_neck"][1]
    inside[skin_end:] = -1
    normals = vertex_normals(vertices, kit.faces, kit.normal_sum)
    maps = skinmaps.maps(kit.mean[kit.landmarks])
    outwards = np.zeros(len(vertices), np.float32)
    outwards[:skin_end] = hair.scalp_offset(canonical[:skin_end], person)
    beard = skinmaps.look_up(maps[5] * min(person.beard * 1.3, 1), canonical[:skin_end]) * (
        canonical[:skin_end, 2] > 3
    )
    outwards[:skin_end] += hair.beard_offset(beard, person)
    # the scalp grows away from the middle of the head, which keeps it free of folds
    centre = np.array([0, 4.0, 1.5], np.float32)
    away = neutral - centre
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    direction = np.where((inside > -0.5)[:, None], away, normals)
    vertices = vertices + direction * outwards[:, None]

    size = (neutral[:skin_end].max(0) - neutral[:skin_end].min(0)) / (
        kit.mean[:skin_end].max(0) - kit.mean[:skin_end].min(0)
    )
    c_vertices, c_canonical, c_faces = hair.curtain(person, size.astype(np.float32))
    g_vertices, g_faces = hair.garment(
        -13.0, float(neutral[groups["head_and_neck"][0] : skin_end, 2].mean()) + 1.0
    )
    sheets = [
        (c_vertices, c_faces, c_canonical, "hair"),
        *((v, f, c, "hair") for v, c, f in (part(person, vertices) for part in (hair.fringe, hair.bun))),
        (g_vertices, g_faces, g_vertices, "garment"),
        *((v, f, v, "glasses") for v, f in accessories.glasses(person, landmarks)),
    ]
    sheets = [sheet for sheet in sheets if len(sheet[0])]

    rotation, _ = _frame(id(kit), five_points(kit.mean[kit.landmarks]).astype(float).tobytes())
    everything = np.concatenate([vertices, *(sheet[0] for sheet in sheets)]).astype(np.float64)
    world, scale, placed = _place(everything @ rotation.T, landmarks @ rotation.T)

    normals = vertex_normals(vertices, kit.faces, kit.normal_sum)
    lamp = person.light
    turned = (rotation @ normals.T).T.astype(np.float32)
    lit = light.irradiance(lamp, turned, kit.openness, kit.unshadowed)
    teeth = slice(*groups["teeth"])  # light that scatters inside the mouth
    lit[teeth] = np.maximum(lit[teeth], 0.45 * lit[: groups["face"][1]].mean(0))
    eyes = slice(groups["eyeball_left"][0], groups["eyeball_right"][1])
    lit[eyes] = np.minimum(lit[eyes], 0.9 * lit[: groups["face"][1]].mean(0))
    parts = [(vertices, kit.faces, turned, lit, canonical, inside)]
    materials = [kit.material]
    for v, f, canon, kind in sheets:
        n = accessories.normals(v) if kind == "glasses" else _grid_normals(v, f)
        n = (rotation @ n.T).T.astype(np.float32)
        e = np.maximum((light.basis(n) * light.COSINE) @ lamp.sh, 0.05) / np.pi * 0.85
        parts.append((v, f, n, e, canon, np.full(len(v), -1, np.float32)))
        materials.append(np.full(len(f), MATERIALS.index(kind), np.int32))
    offset = np.cumsum([0] + [len(p[0]) for p in parts])
    return Head(
        vertices=world.astype(np.float32),
        faces=np.concatenate([p[1] + o for p, o in zip(parts, offset, strict=False)]).astype(np.int32),
        material=np.concatenate(materials).astype(np.int32),
        canonical=np.concatenate([p[4] for p in parts]).astype(np.float32),
        normals=np.concatenate([p[2] for p in parts]).astype(np.float32),
        irradiance=np.concatenate([p[3] for p in parts]).astype(np.float32),
        inside=np.concatenate([p[5] for p in parts]).astype(np.float32),
        landmarks=placed.astype(np.float32),
        scale=scale,
    )


def sag(canonical: np.ndarray, age: float) -> np.ndarray:
    """How far age in [0, 1] has moved each canonical point [N, 3], in cm: jowls, hollow cheeks, brows, tip of the nose."""
    x, y, z = canonical.T
    out = np.zeros_like(canonical)
    old = float(np.clip((age - 0.25) / 0.65, 0, 1)) ** 1.3
    for cx, cy, width, height, move in (
        (4.3, -5.4, 1.5, 1.6, (0.28, -0.55, 0.10)),  # jowls
        (4.6, -1.4, 1.3, 1.8, (-0.12, -0.15, -0.32)),  # the hollow under the cheekbone
        (3.1, -2.6, 1.0, 1.3, (0.05, -0.30, 0.14)),  # flesh beside the mouth
        (4.4, 4.9, 1.4, 0.8, (0.0, -0.30, 0.02)),  # outer ends of the brows
        (0.0, 0.3, 1.1, 1.2, (0.0, -0.28, 0.05)),  # tip of the nose
        (0.0, -9.6, 2.6, 1.5, (0.0, -0.35, 0.35)),  # under the chin
    ):
        there = np.exp(-(((np.abs(x) - cx) / width) ** 2) - ((y - cy) / height) ** 2) * np.clip(z - 2, 0, 1)
        out += (old * there)[:, None] * np.stack([np.sign(x) * move[0], 0 * x + move[1], 0 * x + move[2]], -1)
    return out.astype(np.float32)


def _turn(eyeball: np.ndarray, gaze: tuple[float, float]) -> None:
    """Turn an eyeball [n, 3] about its centre, in place."""
    centre = (eyeball.max(0) + eyeball.min(0)) / 2
    (cy, sy), (cp, sp) = ((np.cos(a), np.sin(a)) for a in gaze)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    eyeball[:] = (eyeball - centre) @ (yaw @ pitch).T + centre


def _place(vertices: np.ndarray, landmarks: np.ndarray):
    """Scale and shift cm into EG3D's world so that EG3D's crop of the front view is the front view."""
    k = 0.0255
    eye_depth = 0.186  # the standard eyes' depth, brought to the 2.7 orbit
    shift = np.array([0.0, 0.0, eye_depth]) - k * landmarks[36:48].mean(0)
    shift[1] += 0.08
    for _ in range(8):
        p = k * five_points(landmarks) + shift
        depth = RADIUS - p[:, 2]
        pixels = p[:, :2] * (FOCAL * 512 / depth)[:, None]
        crop = place(pixels * [1, -1])  # y up -> down
        off = 256 - np.array(crop.offset)  # of the crop's middle, in its pixels
        k *= crop.scale
        shift = shift * [1, 1, 0] * crop.scale
        shift[:2] -= off * [1, -1] * (RADIUS - 0.2) / (FOCAL * 512)
        shift[2] = eye_depth - k * landmarks[36:48, 2].mean()
    return k * vertices + shift, k, k * landmarks + shift


def _grid_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    normals = np.zeros_like(vertices)
    n = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    for i in range(3):
        np.add.at(normals, faces[:, i], n)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    outwards = vertices - vertices.mean(0)
    return normals * np.sign((normals * outwards * [1, 0, 1]).sum(1, keepdims=True) + 1e-9)


def draw(
    kit: FaceKit, person: Person, head: Head, camera: np.ndarray, size: int = 256, supersample: int = 2
) -> View:
    """Draw a head from a camera.

    Args:
        camera: the 25 EG3D numbers.
        size: pixels of the square result; supersample: samples a pixel along each axis.
    """
    camera = np.asarray(camera, np.float64)
    pose, intrinsics = camera[:16].reshape(4, 4), camera[16:].reshape(3, 3)
    big = size * supersample
    focal = intrinsics[0, 0] * big
    cx, cy = intrinsics[0, 2] * big, intrinsics[1, 2] * big
    screen, landmarks = (_project(p, pose, focal, cx, cy) for p in (head.vertices, head.landmarks))
    nearest, index, weights = raster.draw(screen, head.faces, big, big)
    scalars, colours, marks = shading.pack(person)
    out = np.empty((big, big, 3), np.float32)
    part = np.empty((big, big), np.uint8)
    depth = np.empty((big, big), np.float32)
    eye = kit.mean[slice(*kit.groups["eyeball_left"])]
    eye = ((eye.max(0) + eye.min(0)) / 2)[:2].astype(np.float32)
    shading.shade(
        index, weights, nearest, screen, head.faces, head.material, head.canonical, head.normals, head.irradiance,
        head.inside, skinmaps.maps(kit.mean[kit.landmarks]), scalars, colours, marks, eye, person.light.key,
        person.light.key_colour.astype(np.float32), (person.wall**2.2).astype(np.float32), pose.astype(np.float32),
        np.float32(focal), np.array([cx, cy, WALL_Z], np.float32), out, part, depth,
    )  # fmt: skip
    colour = np.clip(out, 0, 1) ** (1 / 2.2)
    if supersample > 1:
        colour = cv2.resize(colour, (size, size), interpolation=cv2.INTER_AREA)
    part, depth = _averaged(part, depth, supersample)
    return View((colour * 255 + 0.5).astype(np.uint8), depth, part, landmarks[:, :2] / supersample)


def _averaged(part: np.ndarray, depth: np.ndarray, supersample: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts and depths of samples -> those of pixels: one sample's part, and the mean depth where that part is."""
    size, half = len(part) // supersample, supersample // 2
    apart = (size, supersample, size, supersample)
    chosen = part[half::supersample, half::supersample]
    same = part.reshape(apart) == chosen[:, None, :, None]
    return chosen, (depth.reshape(apart) * same).sum((1, 3)) / same.sum((1, 3), dtype=np.float32)


def _project(points, pose, focal, cx, cy) -> np.ndarray:
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    inverse = 1.0 / local[:, 2]
    return np.stack(
        [local[:, 0] * inverse * focal + cx, local[:, 1] * inverse * focal + cy, inverse], 1
    ).astype(np.float32)
