"""A triangle mesh of a face: marching cubes of the density, without the wall behind the head.

The mesh lies in the prior's own world (cameras.py): y up, +z towards the viewer, right-handed, so that its picture
from a camera overlays the render from that camera. One unit is about 37 cm.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from skimage.measure import marching_cubes
from torch import Tensor

from my3dgen.errors import My3DGenError, whole
from my3dgen.models.eg3d.volume import PORTION, make_rays
from my3dgen.progress import ProgressCallback, Ticker
from my3dgen.writing import replacing

HALF = math.log(2.0)  # optical depth at which half the light is absorbed
OPAQUE = 1e4  # an optical depth that nothing passes
RESOLUTIONS = (16, 512)  # samples along a side that a mesh may have
PROBE = 48  # side of the grid of columns that locate the wall
MARGIN = 0.02  # of the box: what is cut away in front of the wall, since its own surface is uneven
SHOULDERS = 0.3  # of the box from below: what the box may cut through at its sides
ASIDE = (
    4.0  # weight of what light straight from a side or above loses: hair is thin from there and little seen
)
SMOOTH = 0.7  # voxels: takes the grid's own steps out of the surface
# Ways that light travels: from the front, the sides and above, where cameras are; not from behind, which no camera
# ever sees and where a prior's head may be open.
RAYS = tuple(
    (x, y, z) for z in (-1, 0) for y in (-1, 0, 1) for x in (-1, 0, 1) if z or y < 0 or (x and not y)
)


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed triangle mesh with a colour at each corner."""

    vertices: np.ndarray  # float32 [V, 3], world units
    faces: np.ndarray  # int32 [F, 3], counter-clockwise as seen from outside
    colours: np.ndarray  # uint8 [V, 3], sRGB as on the screen

    @property
    def normals(self) -> np.ndarray:
        """Smooth outward unit normals, float32 [V, 3]: faces' normals weighted by area."""
        a, b, c = (self.vertices[self.faces[:, i]].astype(np.float64) for i in range(3))
        area = np.cross(b - a, c - a)
        total = np.stack(
            [np.bincount(self.faces.ravel(), np.repeat(area[:, i], 3), len(self.vertices)) for i in range(3)],
            axis=1,
        )
        return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)).astype(np.float32)


@torch.no_grad()
def mesh(prior, ws: Tensor, resolution: int = 128, progress: ProgressCallback | None = None) -> Mesh:
    """The surface that renders of a latent show, as one closed piece.

    Args:
        prior: a Prior, personalized or not.
        ws: [L, w_dim], the face.
        resolution: samples along each side of the box, 16 to 512; time and memory grow with its cube.
        progress: reports of the density's slabs. The mesh is whole or not at all, so False raises.

    Raises:
        My3DGenError: for a resolution out of range, where nothing in the box is opaque, or where stopped.
    """
    resolution = whole("resolution", resolution, *RESOLUTIONS)
    prior.require_latent(ws)
    planes = prior.generator.planes(ws[None].to(prior.device))
    wall = find_wall(prior, planes)
    rate = _absorbed(prior, planes, resolution, progress)
    field = _solid(rate, wall, prior.config.box_warp)
    vertices, faces = _triangles(field, prior.config.box_warp)
    return Mesh(vertices, faces, _colours(prior, planes, vertices))


@torch.no_grad()
def find_wall(prior, planes: Tensor) -> np.ndarray | None:
    """The wall that some priors put behind the head: (a, b, c) of z = a + b x + c y in world units, or None.

    planes [1, 3, C, H, W]. It is looked for at the box's top and sides, which no head reaches: there rays
    going back from the front meet it and nothing else.
    """
    box = prior.config.box_warp
    side = (torch.arange(PROBE) + 0.5) / PROBE - 0.5
    x, y = (grid.flatten() for grid in torch.meshgrid(side, side, indexing="xy"))
    border = (x.abs().maximum(y) > 0.4) & (y > -0.1)  # further down there are shoulders
    x, y = x[border] * box, y[border] * box
    steps = 2 * PROBE
    z = torch.linspace(0.5, -0.5, steps) * box
    points = torch.stack(
        [x[:, None].expand(-1, steps), y[:, None].expand(-1, steps), z.expand(len(x), -1)], dim=-1
    )
    depth = _absorption(_sigma(prior, planes, points.reshape(-1, 3)).reshape(len(x), steps)) * box / steps
    passed = depth.cumsum(dim=1) > HALF
    hit = passed.any(dim=1).numpy()
    if hit.mean() < 0.6:
        return None
    height = z[passed.float().argmax(dim=1)].numpy()[hit].astype(np.float64)
    design = np.stack([np.ones(hit.sum()), x.numpy()[hit], y.numpy()[hit]], axis=1).astype(np.float64)
    near = np.abs(height - np.median(height)) < 0.1 * box
    for _ in range(4):  # least squares again and again without what sticks out: hair, floaters
        if near.sum() < 0.5 * len(x):
            return None
        plane = np.linalg.lstsq(design[near], height[near], rcond=None)[0]
        near = np.abs(height - design @ plane) < 0.05 * box
    return plane if plane[0] < -0.1 * box else None  # anything further forward would be the head itself


def seen(prior, planes: Tensor, c: Tensor, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each pixel's ray meets, from the volume render alone.

    planes [1, 3, C, H, W], c [1, 25] -> world points float32 [R, R, 3], distances from the camera [R, R],
    opacity [R, R] in 0..1.
    """
    generator = prior.generator
    _, depth, opacity = generator.renderer(planes, generator.decoder, c, resolution)
    origins, directions = make_rays(c, resolution)
    points = origins + depth.reshape(1, -1, 1) * directions
    shape = (resolution, resolution)
    return (
        points.reshape(*shape, 3).cpu().numpy(),
        depth.reshape(shape).cpu().numpy(),
        opacity.reshape(shape).cpu().numpy(),
    )


def behind(points: np.ndarray, wall: np.ndarray | None, margin: float) -> np.ndarray:
    """Which points [..., 3] lie on or behind the wall, or less than `margin` in front of it; bool [...]."""
    if wall is None:
        return np.zeros(points.shape[:-1], bool)
    return points[..., 2] < wall[0] + wall[1] * points[..., 0] + wall[2] * points[..., 1] + margin


def _sigma(prior, planes: Tensor, points: Tensor) -> Tensor:
    """Raw density at points [N, 3] -> [N] on the CPU, a portion at a time."""
    parts = points.to(prior.device, torch.float32).split(PORTION)
    return torch.cat([prior.generator.sample(planes, part[None])["sigma"][0, :, 0] for part in parts]).cpu()


def _absorption(sigma: Tensor) -> Tensor:
    """Light absorbed a unit of length, as `volume.march` has it."""
    return torch.nn.functional.softplus(sigma - 1)


def _absorbed(prior, planes: Tensor, resolution: int, progress: ProgressCallback | None) -> np.ndarray:
    """Light absorbed a voxel, on a grid that spans the box: float32 [R, R, R] over x, y, z."""
    side = torch.linspace(-0.5, 0.5, resolution) * prior.config.box_warp
    y, z = torch.meshgrid(side, side, indexing="ij")
    rate = np.empty((resolution,) * 3, np.float32)
    ticker = Ticker("mesh", resolution, progress)
    for i, x in enumerate(side):
        points = torch.stack([x.expand_as(y), y, z], dim=-1).reshape(-1, 3)
        rate[i] = _absorption(_sigma(prior, planes, points)).reshape(resolution, resolution).numpy()
        if not ticker.tick(i + 1):
            raise My3DGenError("The mesh was stopped before it was finished; nothing was kept.")
    return rate * (prior.config.box_warp / (resolution - 1))


def _depths(rate: np.ndarray) -> np.ndarray:
    """How much light is lost on the way to each grid point, as optical depth: [R, R, R] like `rate`.

    rate: light absorbed a voxel, over x, y, z. Of the parallel rays of RAYS that reach a point the second
    clearest counts: a slit through which only one of them slips is no opening.
    """
    size = len(rate)
    rate = np.pad(rate, 1)
    rate[:, 0] = OPAQUE  # shoulders end at the box: no light enters their inside where they are cut
    rate[[0, -1], : round(SHOULDERS * size)] = OPAQUE
    clearest = np.full_like(rate, OPAQUE)
    second = clearest.copy()
    for ray in RAYS:
        depth = _march(rate, ray) * (1.0 if ray[2] else ASIDE)
        np.minimum(second, np.maximum(clearest, depth), out=second)
        np.minimum(clearest, depth, out=clearest)
    return second[1:-1, 1:-1, 1:-1]


def _march(rate: np.ndarray, ray: tuple[int, int, int]) -> np.ndarray:
    """Optical depth at each grid point for parallel light that travels along `ray`, voxel by voxel."""
    axis = next(i for i in (2, 0, 1) if ray[i])
    sideways = tuple(ray[i] for i in range(3) if i != axis)
    length = math.sqrt(sum(step * step for step in ray))
    depth = np.zeros_like(rate)
    slices, sums = np.moveaxis(rate, axis, 0), np.moveaxis(depth, axis, 0)
    if ray[axis] < 0:
        slices, sums = slices[::-1], sums[::-1]
    into = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(sideways, slices.shape[1:], strict=True))
    out_of = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(sideways, slices.shape[1:], strict=True))
    for k in range(1, len(slices)):
        mean = (slices[k - 1][out_of] + slices[k][into]) / 2
        sums[k][into] = sums[k - 1][out_of] + mean * length
    return depth


def _solid(rate: np.ndarray, wall: np.ndarray | None, box: float) -> np.ndarray:
    """Absorption [R, R, R] a voxel -> one solid without wall and floaters, > 0 inside, in about voxels.

    Returned with one more voxel of air all around: [R+2, R+2, R+2].
    """
    size = len(rate)
    step = box / (size - 1)
    # Density rises about evenly at a surface, so its square root does with depth: marching cubes
    # interpolates between the two sides as if they were on a straight line.
    field = np.sqrt(_depths(rate)) - math.sqrt(HALF)
    change = np.concatenate([np.abs(np.diff(field, axis=i))[np.diff(field > 0, axis=i)] for i in range(3)])
    field = np.clip(field / max(float(np.median(change)) if change.size else 1.0, 1e-6), -4, 4)
    field = ndimage.gaussian_filter(field, SMOOTH)
    side = np.linspace(-0.5, 0.5, size) * box
    x, y, z = np.meshgrid(side, side, side, indexing="ij", sparse=True)
    if wall is not None:
        plane = wall[0] + wall[1] * x + wall[2] * y + MARGIN * box
        field = np.minimum(field, np.clip((z - plane) / step, -4, 4))

    labels, _ = ndimage.label(field > 0)
    # The head is what fills the middle of the box; floaters may be large but are elsewhere.
    middle = np.bincount(labels[x * x + y * y + z * z < (0.3 * box) ** 2], minlength=2)[1:]
    if not middle.any():
        raise My3DGenError(
            "This latent has no surface: nothing in the middle of the box is opaque enough to make a mesh of. "
            "Use one that renders as a face (an anchor of the person, for example)."
        )
    head = np.pad(labels == middle.argmax() + 1, 1)
    field = np.pad(field, 1, constant_values=-100.0)  # steep: the mesh ends at the box and not beyond it
    air, _ = ndimage.label(~head)
    field = np.where(air == air[0, 0, 0], np.minimum(field, -1e-3), np.maximum(field, 1e-3))
    return field.astype(np.float32)


def _triangles(field: np.ndarray, box: float) -> tuple[np.ndarray, np.ndarray]:
    """The zero surface of a padded field [R+2]*3: vertices float32 [V, 3] and outward faces int32 [F, 3]."""
    step = box / (len(field) - 3)
    vertices, faces, _, _ = marching_cubes(field, 0.0, allow_degenerate=False)
    vertices = ((vertices - 1) * step - box / 2).astype(np.float32)
    faces = faces.astype(np.int32)
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:  # six times the volume
        faces = np.ascontiguousarray(faces[:, ::-1])
    return vertices, faces


def _colours(prior, planes: Tensor, vertices: np.ndarray) -> np.ndarray:
    """The planes' colour at the surface, uint8 [V, 3]."""
    parts = torch.from_numpy(vertices).to(prior.device).split(PORTION)
    rgb = torch.cat([prior.generator.sample(planes, part[None])["rgb"][0, :, :3] for part in parts])
    # Features are 0..1 where the render is -1..1: the same bytes as those of `to_uint8`.
    return (rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def write_mesh(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as .glb (glTF 2.0) or .ply (binary), with smooth normals and colours, whole or not at all.

    A .glb has vertex colours and no material: with one, trimesh and others no longer show them as the colours.

    Raises:
        My3DGenError: for another ending, or where the file cannot be written.
    """
    path = Path(path)
    formats = {".glb": _glb, ".ply": _ply}
    if path.suffix.lower() not in formats:
        raise My3DGenError(f"A mesh is written as .glb or .ply, not as {path.name[:80]!r}.")
    data = formats[path.suffix.lower()](mesh)
    with replacing(path) as file:
        file.write_bytes(data)
    return path


def _glb(mesh: Mesh) -> bytes:
    """glTF 2.0 binary. Its vertex colours are linear light by the format's definition, ours are sRGB."""
    srgb = mesh.colours.astype(np.float32) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    # float, not bytes: eight bits of linear light leave dark hair and skin a handful of shades
    arrays = [mesh.vertices, mesh.normals, linear, mesh.faces.ravel().astype(np.uint32)]
    parts = [np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in map(_single, arrays)]
    starts = np.cumsum([0] + [len(part) for part in parts])
    accessors = [
        {"bufferView": i, "componentType": 5125 if i == 3 else 5126, "count": len(a)}
        | {"type": "SCALAR" if i == 3 else "VEC3"}
        for i, a in enumerate(arrays)
    ]
    # the format wants the positions' bounds
    accessors[0] |= {"min": mesh.vertices.min(0).tolist(), "max": mesh.vertices.max(0).tolist()}
    tree = {
        "asset": {"version": "2.0", "generator": "my3dgen"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "face"}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3}]}
        ],
        "accessors": accessors,
        "bufferViews": [
            {
                "buffer": 0,
                "byteOffset": int(start),
                "byteLength": len(part),
                "target": 34963 if i == 3 else 34962,
            }
            for i, (start, part) in enumerate(zip(starts, parts, strict=False))
        ],
        "buffers": [{"byteLength": int(starts[-1])}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"".join(parts)  # every part is a multiple of four bytes
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _ply(mesh: Mesh) -> bytes:
    """PLY, little-endian binary. Its colours are bytes as on the screen."""
    floats = ["x", "y", "z", "nx", "ny", "nz"]
    corner = [(name, "<f4") for name in floats] + [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(mesh.vertices), corner)
    for names, values in (
        (floats[:3], mesh.vertices),
        (floats[3:], mesh.normals),
        (("red", "green", "blue"), mesh.colours),
    ):
        for i, name in enumerate(names):
            vertices[name] = values[:, i]
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", "comment my3dgen: y up, one unit is about 37 cm"]
    header += [f"element vertex {len(vertices)}"]
    header += [f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind in corner]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()
