"""The morphable head under the synthetic people: USC ICT-FaceKit Light (MIT licence, ICT-VGL/ICT-FaceKit).

The data is not part of this project. `convert` makes one `.npz` from the public repository's files and
`load` reads it; `MY3DGEN_FACEKIT` or the argument says where it lies.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from my3dgen.errors import My3DGenError
from my3dgen.pretraining import light, raster
from my3dgen.writing import replacing

# vertex groups that are drawn; lashes, tear film and occlusion cards need translucency and are left out
DRAWN = {
    "face": "skin",
    "head_and_neck": "skin",
    "mouth_socket": "mouth",
    "eye_socket_left": "mouth",
    "eye_socket_right": "mouth",
    "gums_and_tongue": "mouth",
    "teeth": "teeth",
    "eyeball_left": "eye",
    "eyeball_right": "eye",
}
# vertex ranges of the parts, as ICT-FaceKit's README tabulates them
GROUPS = (
    ("face", 0, 9409),
    ("head_and_neck", 9409, 11248),
    ("mouth_socket", 11248, 13294),
    ("eye_socket_left", 13294, 13678),
    ("eye_socket_right", 13678, 14062),
    ("gums_and_tongue", 14062, 17039),
    ("teeth", 17039, 21451),
    ("eyeball_left", 21451, 23021),
    ("eyeball_right", 23021, 24591),
    ("lacrimal_left", 24591, 24795),
    ("lacrimal_right", 24795, 24999),
    ("eye_blend_left", 24999, 25023),
    ("eye_blend_right", 25023, 25047),
    ("eye_occlusion_left", 25047, 25199),
    ("eye_occlusion_right", 25199, 25351),
    ("eyelashes_left", 25351, 26035),
    ("eyelashes_right", 26035, 26719),
)
MATERIALS = ("skin", "mouth", "teeth", "eye", "hair", "garment", "wall", "glasses")


@dataclass(frozen=True)
class FaceKit:
    """The head model in centimetres, y up, z out of the face, the person's left at +x."""

    mean: np.ndarray  # [V, 3] the neutral mean head; also every vertex's canonical coordinate
    identity: np.ndarray  # [K, V*3] offsets per standard deviation
    expression: np.ndarray  # [E, V*3] offsets at weight 1
    expression_names: tuple[str, ...]
    faces: np.ndarray  # [T, 3] drawn triangles
    material: np.ndarray  # [T] index into MATERIALS
    landmarks: np.ndarray  # [68] Multi-PIE vertices
    groups: dict[str, tuple[int, int]]  # vertex range of each part
    normal_sum: sp.csr_matrix  # [V, T] adds face normals up to vertex normals
    openness: np.ndarray  # [V, 9] light that reaches the mean head from each SH lobe, shadows counted
    unshadowed: np.ndarray  # [V, 9] the same without shadows

    def weights(self, **named: float) -> np.ndarray:
        """Expression weights [E] by name; a name without side sets both sides."""
        out = np.zeros(len(self.expression_names), np.float32)
        for i, name in enumerate(self.expression_names):
            out[i] = named.get(name, named.get(name.removesuffix("_L").removesuffix("_R"), 0.0))
        return out


def vertex_normals(vertices: np.ndarray, faces: np.ndarray, normal_sum: sp.csr_matrix) -> np.ndarray:
    """Unit normals [V, 3], area-weighted."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = normal_sum @ np.cross(b - a, c - a)
    return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def summing_matrix(faces: np.ndarray, vertices: int) -> sp.csr_matrix:
    rows = faces.ravel()
    columns = np.repeat(np.arange(len(faces)), 3)
    return sp.csr_matrix((np.ones(rows.size, np.float32), (rows, columns)), (vertices, len(faces)))


@lru_cache(maxsize=2)
def load(path: str | None = None) -> FaceKit:
    """Read the converted head model.

    Raises:
        My3DGenError: where the file is missing or not such a file.
    """
    path = Path(path or os.environ.get("MY3DGEN_FACEKIT", "data/ict_facekit_light.npz"))
    if not path.is_file():
        raise My3DGenError(
            f"the head model {path} is missing. Clone ICT-VGL/ICT-FaceKit and run "
            f"`python -m my3dgen.pretraining convert-facekit ICT-FaceKit/FaceXModel {path}`"
        )
    try:
        with np.load(path) as file:
            data = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise My3DGenError(f"the head model {path} is damaged ({error}); convert it anew") from error
    mean = data["vertices"].astype(np.float32)
    ranges = {
        str(n): (int(a), int(b))
        for n, (a, b) in zip(data["vertex_group_names"], data["vertex_group_ranges"], strict=True)
    }
    part = np.full(len(mean), -1)
    for name, kind in DRAWN.items():
        part[slice(*ranges[name])] = MATERIALS.index(kind)
    faces = data["faces"]
    # a triangle across two parts (the rim of the mouth) is skin where any corner is
    corner = part[faces]
    drawn = (corner >= 0).all(1)
    faces, material = faces[drawn], corner[drawn].min(1).astype(np.int32)
    normal_sum = summing_matrix(faces, len(mean))
    normals = vertex_normals(mean, faces, normal_sum)
    openness, unshadowed = _light_transfer(mean, normals, faces)
    return FaceKit(
        mean=mean,
        identity=data["identity"].astype(np.float32).reshape(len(data["identity"]), -1),
        expression=data["expression"].astype(np.float32).reshape(len(data["expression"]), -1),
        expression_names=tuple(str(n) for n in data["expression_names"]),
        faces=faces.astype(np.int32),
        material=material,
        landmarks=data["landmarks68"],
        groups=ranges,
        normal_sum=normal_sum,
        openness=openness,
        unshadowed=unshadowed,
    )


def _light_transfer(vertices, normals, faces, count: int = 160, size: int = 256):
    """How much of each SH lobe reaches each vertex, by drawing the head from `count` directions."""
    golden = np.pi * (3 - np.sqrt(5))
    k = np.arange(count) + 0.5
    y = 1 - 2 * k / count
    ring = np.sqrt(1 - y * y)
    directions = np.stack([ring * np.cos(golden * k), y, ring * np.sin(golden * k)], 1).astype(np.float32)
    openness = np.zeros((len(vertices), 9), np.float32)
    unshadowed = np.zeros_like(openness)
    centre, radius = vertices.mean(0), 24.0
    for d in directions:
        up = np.array([0, 1, 0], np.float32) if abs(d[1]) < 0.9 else np.array([1, 0, 0], np.float32)
        x = np.cross(up, d)
        x /= np.linalg.norm(x)
        local = (vertices - centre) @ np.stack([x, np.cross(d, x), d], 1)
        px = (local[:, :2] / (2 * radius) + 0.5) * size
        depth = radius - local[:, 2]  # distance from a plane outside the head, positive
        screen = np.stack([px[:, 0], px[:, 1], 1.0 / depth], 1).astype(np.float32)
        zbuffer, _, _ = raster.draw(screen, faces, size, size)
        ix = np.clip(px.astype(int), 0, size - 1)
        nearest = 1.0 / np.maximum(zbuffer[ix[:, 1], ix[:, 0]], 1e-6)
        visible = depth < nearest + 0.25
        cosine = np.maximum(normals @ d, 0) * (4 * np.pi / count)
        lobe = cosine[:, None] * light.basis(d[None])
        unshadowed += lobe
        openness += lobe * visible[:, None]
    return openness, unshadowed


def convert(source: str, target: str) -> None:
    """Make the `.npz` that `load` reads from ICT-FaceKit's `FaceXModel` folder.

    Reads `generic_neutral_mesh.obj`, `identity*.obj`, one `.obj` for each expression and
    `vertex_indices.json`; quads are split as fans; only the Light model's vertices (26,719) are kept.
    """
    folder = Path(source)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    neutral = folder / "generic_neutral_mesh.obj"
    if not neutral.is_file():
        raise My3DGenError(
            f"{folder} holds no generic_neutral_mesh.obj; give ICT-FaceKit's FaceXModel folder"
        )
    vertices, uv, polygons, uv_polygons, materials = _read_obj(neutral)
    indices = json.loads((folder / "vertex_indices.json").read_text())
    count = GROUPS[-1][2]
    faces, uv_faces, face_materials = [], [], []
    for polygon, uv_polygon, material in zip(polygons, uv_polygons, materials, strict=True):
        if max(polygon) >= count:
            continue
        for i in range(1, len(polygon) - 1):
            faces.append([polygon[0], polygon[i], polygon[i + 1]])
            uv_faces.append([uv_polygon[0], uv_polygon[i], uv_polygon[i + 1]])
            face_materials.append(material)
    names = sorted(set(face_materials), key=face_materials.index)

    def offsets(stems):
        shapes = [_read_obj(folder / f"{stem}.obj")[0][:count] for stem in stems]
        return (np.stack(shapes) - vertices[:count]).astype(np.float16)

    expressions = indices["expressions"]
    with replacing(target) as file:
        np.savez_compressed(
            file,
            vertices=vertices[:count],
            identity=offsets(sorted(p.stem for p in folder.glob("identity*.obj"))),
            expression=offsets(expressions),
            expression_names=expressions,
            faces=np.array(faces, np.int32),
            uv=uv,
            uv_faces=np.array(uv_faces, np.int32),
            material=np.array([names.index(m) for m in face_materials], np.uint8),
            material_names=names,
            landmarks68=np.array(indices["idx_to_landmark_verts"], np.int32),
            vertex_group_names=[name for name, _, _ in GROUPS],
            vertex_group_ranges=np.array([[a, b] for _, a, b in GROUPS], np.int32),
        )


def _read_obj(path: Path):
    vertices, uv, polygons, uv_polygons, materials, material = [], [], [], [], [], ""
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif kind == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif kind == "usemtl":
            material = rest.strip()
        elif kind == "f":
            corners = [c.split("/") for c in rest.split()]
            polygons.append([int(c[0]) - 1 for c in corners])
            uv_polygons.append([int(c[1]) - 1 if len(c) > 1 and c[1] else 0 for c in corners])
            materials.append(material)
    return np.array(vertices, np.float32), np.array(uv, np.float32), polygons, uv_polygons, materials
