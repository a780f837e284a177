"""Meshes, films and depth pictures: of scenes whose truth is known, and of `heads` against its own renders."""

from __future__ import annotations

import json
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import my3dgen
from my3dgen.cameras import camera, project_points, split
from my3dgen.personal.anchors import Anchors
from my3dgen.tasks.export import NEUTRAL, depth_picture, export
from my3dgen.tasks.mesh import Mesh, find_wall, mesh, seen, write_mesh
from my3dgen.tasks.video import side_by_side, turntable, write_video

CENTRE, RADIUS = torch.tensor([0.0, 0.05, 0.02]), 0.22
SIDE = 64  # pixels of the pictures compared


def ball(points, centre=CENTRE, radius=RADIUS):
    """How far inside a ball points [..., 3] lie."""
    return radius - (points - torch.as_tensor(centre)).norm(dim=-1)


def shell(points):
    """A head as priors have them: nothing but its skin was ever seen, and below the skin it is empty."""
    return torch.minimum(ball(points), 0.06 - ball(points))


def body(points):
    """A column from the head down and out of the box."""
    x, y, z = points.unbind(-1)
    return torch.minimum(0.12 - (x * x + z * z).sqrt(), -y)


def wall(points, tilt=0.0):
    return -0.34 + tilt * points[..., 0] - points[..., 2]


def floater(points):
    return ball(points, (0.4, 0.4, 0.4), 0.06)


def scene(*shapes):
    """A prior that shows shapes; its colours say where they are (red grows with x, green with y, blue with z)."""

    def sample(planes, points):
        inside = torch.stack([shape(points) for shape in shapes]).max(dim=0).values
        return {"sigma": (inside * 1e4).clamp(-200, 200)[..., None], "rgb": points + 0.5}

    config = SimpleNamespace(box_warp=1.0)
    generator = SimpleNamespace(planes=lambda ws: torch.zeros(1, 3, 1, 2, 2), sample=sample)
    return SimpleNamespace(
        generator=generator, config=config, device=torch.device("cpu"), require_latent=lambda ws: None
    )


def solid(m: Mesh) -> trimesh.Trimesh:
    """The mesh as others see it, which must be one closed body with its faces outward."""
    other = trimesh.Trimesh(m.vertices, m.faces, process=False)
    assert other.is_watertight and other.is_winding_consistent and other.body_count == 1
    assert other.volume > 0
    return other


WS = torch.zeros(4, 8)


@pytest.mark.parametrize(
    "around",
    [(), (wall,), (wall, floater), (lambda p: wall(p, 0.1), floater)],
    ids=["bare", "wall", "all", "tilted"],
)
def test_the_mesh_is_the_head_without_wall_floaters_and_hollows(around):
    m = mesh(scene(shell, *around), WS, 48)
    other = solid(m)
    assert other.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.12)
    front = m.vertices[:, 2] > 0.0  # what cameras see; the far side is a guess
    assert np.abs(ball(torch.from_numpy(m.vertices[front])).numpy()).max() < 0.02  # one voxel
    assert m.vertices.dtype == np.float32 and m.faces.dtype == np.int32 and m.colours.dtype == np.uint8
    expected = (m.vertices + 0.5) * 255
    assert np.abs(m.colours - expected).max() <= 1.5
    away = (m.normals * (m.vertices - CENTRE.numpy())).sum(1)
    assert (away[front] > 0).all()


def test_the_wall_is_found_where_it_is_and_not_where_none_is():
    planes = torch.zeros(1, 3, 1, 2, 2)
    assert find_wall(scene(ball), planes) is None
    assert find_wall(scene(ball, body, floater), planes) is None
    found = find_wall(scene(ball, lambda p: wall(p, 0.1)), planes)
    assert found == pytest.approx([-0.34, 0.1, 0.0], abs=0.02)


def test_the_mesh_is_closed_where_it_leaves_the_box():
    m = mesh(scene(shell, body, wall), WS, 40)
    solid(m)
    assert m.vertices[:, 1].min() == pytest.approx(-0.5, abs=2e-3)


@pytest.mark.parametrize("shapes", [(lambda p: p[..., 0] * 0 - 1,), (wall,), (floater,)])
def test_nothing_to_make_a_mesh_of_is_an_error(shapes):
    with pytest.raises(my3dgen.My3DGenError, match="no surface"):
        mesh(scene(*shapes), WS, 24)


@pytest.fixture(scope="module")
def prior():
    return my3dgen.load_prior("heads")


@pytest.fixture(scope="module")
def ws(prior):
    z = torch.randn(1, prior.config.z_dim, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        return prior.generator.mapping(z, camera(0.0, 0.0)[None])[0]


@pytest.fixture(scope="module")
def head(prior, ws):
    return mesh(prior, ws, 64)


def picture(m: Mesh, c) -> tuple[np.ndarray, np.ndarray]:
    """Distance [S, S] (inf: nothing) and colour [S, S, 3] of a mesh from a camera: points all over its faces,
    the nearest of each pixel."""
    shares = np.array([[i, j, 4 - i - j] for i in range(5) for j in range(5 - i)]) / 4
    points = np.einsum("kc,fcd->fkd", shares, m.vertices[m.faces]).reshape(-1, 3).astype(np.float32)
    colours = np.einsum("kc,fcd->fkd", shares, m.colours[m.faces].astype(np.float64)).reshape(-1, 3)
    pixel = np.floor(project_points(points, c).numpy() * SIDE).astype(int)
    far = np.linalg.norm(points - split(c)[0][:3, 3].numpy(), axis=1)
    inside = ((pixel >= 0) & (pixel < SIDE)).all(axis=1)
    order = np.flatnonzero(inside)[np.argsort(-far[inside], kind="stable")]  # the nearest is written last
    depth, colour = np.full((SIDE, SIDE), np.inf), np.zeros((SIDE, SIDE, 3))
    depth[pixel[order, 1], pixel[order, 0]] = far[order]
    colour[pixel[order, 1], pixel[order, 0]] = colours[order]
    return depth, colour


@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_the_mesh_overlays_the_render(prior, ws, head, yaw):
    solid(head)
    c = camera(yaw, 0.0, pivot=prior.config.camera_pivot)
    with torch.no_grad():
        planes = prior.generator.planes(ws[None])
        points, depth, _ = seen(prior, planes, c[None], SIDE)
        raw = prior.generator.synthesis(ws[None], c[None], SIDE, planes=planes)["image_raw"][0]
        back = find_wall(prior, planes)
    shown = np.abs(points).max(axis=-1) < 0.5  # the box is all that a mesh can hold
    if back is not None:
        shown &= points[..., 2] > back[0] / 2  # depths at outlines are means of head and wall
    distance, colour = picture(head, c)
    drawn = np.isfinite(distance)
    assert (drawn & shown).sum() / (drawn | shown).sum() > 0.85
    both = drawn & shown
    # the nearest of a pixel's points lies before the mean depth of its ray, by less than a voxel
    assert np.abs(np.median(distance[both] - depth[both])) < 0.012
    assert np.median(np.abs(distance[both] - depth[both])) < 0.015  # a voxel
    rendered = (raw.permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(colour - rendered)[both].mean() < 8


def test_a_glb_holds_the_mesh_with_linear_colours(tmp_path, head):
    path = write_mesh(head, tmp_path / "new" / "face.glb")
    other = trimesh.load(path, force="mesh", process=False)
    assert other.visual.kind == "vertex" and len(np.unique(other.visual.vertex_colors, axis=0)) > 20
    assert np.array_equal(other.vertices.astype(np.float32), head.vertices)
    assert np.array_equal(other.faces, head.faces)
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    tree, body = json.loads(data[20 : 20 + length]), data[28 + length :]
    view = tree["bufferViews"][tree["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]]
    normals = np.frombuffer(body, "<f4", view["byteLength"] // 4, view["byteOffset"]).reshape(-1, 3)
    assert np.array_equal(normals, head.normals)  # trimesh makes its own
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-4  # as the format demands
    assert np.median((other.vertex_normals * normals).sum(1)) > 0.999
    share = head.colours / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    assert np.abs(other.visual.vertex_colors[:, :3] - linear * 255).max() <= 1
    assert trimesh.load(path, force="mesh").is_watertight  # also once equal corners are merged
    assert [f.name for f in path.parent.iterdir()] == ["face.glb"]


def test_a_ply_holds_the_mesh_with_screen_colours(tmp_path, head):
    other = trimesh.load(write_mesh(head, tmp_path / "face.ply"), process=False)
    assert np.array_equal(other.vertices.astype(np.float32), head.vertices)
    assert np.array_equal(other.visual.vertex_colors[:, :3], head.colours)
    assert other.is_watertight and other.volume > 0


def test_a_mesh_cannot_be_written_as_anything_else(tmp_path, head):
    with pytest.raises(my3dgen.My3DGenError, match="glb or .ply"):
        write_mesh(head, tmp_path / "face.obj")
    (tmp_path / "file").write_text("")
    with pytest.raises(my3dgen.My3DGenError, match="cannot be written"):
        write_mesh(head, tmp_path / "file" / "face.ply")
    with pytest.raises(my3dgen.My3DGenError, match="16 to 512"):
        mesh(scene(ball), WS, 4)


def test_a_turntable_closes_and_computes_the_planes_once(prior, ws, monkeypatch):
    calls, planes = [], prior.generator.planes
    monkeypatch.setattr(prior.generator, "planes", lambda w: calls.append(1) or planes(w))
    frames = [f.astype(float) for f in turntable(prior, ws, frames=12)]
    assert len(calls) == 1 and len(frames) == 12
    steps = [
        np.abs(frames[i] - frames[i - 1]).mean() for i in range(12)
    ]  # the first is the last to the first
    assert 0 < steps[0] < 1.3 * max(steps[1:])
    stopped = turntable(prior, ws, frames=12, progress=lambda report: report.step < 3)
    assert len(stopped) == 3


def test_films_side_by_side_are_labelled():
    left, right = np.zeros((60, 80, 3), np.uint8), np.full((60, 80, 3), 200, np.uint8)
    (frame,) = side_by_side([left], [right])
    assert frame.shape[1] == 160 and frame.shape[0] > 60 and frame.shape[0] % 2 == 0
    assert (frame[-60:, :80] == 0).all() and (frame[-60:, 80:] == 200).all()
    assert frame[:-60, :80].max() > 150 and frame[:-60, 80:].max() > 150  # words
    with pytest.raises(my3dgen.My3DGenError, match="side by side"):
        side_by_side([left], [right, right])


def test_a_film_plays_with_its_size_and_colours(tmp_path, monkeypatch):
    frames = [np.full((35, 51, 3), (180, 120 + i, 90), np.uint8) for i in range(7)]
    # a folder with a colon is no protocol, also where it is named from here
    monkeypatch.chdir(tmp_path)
    tmp_path = tmp_path / "12:30"
    write_video("12:30/film.mp4", frames, fps=25)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "film.mp4"))
    about = next(reader)
    assert about["size"] == (52, 36) and about["fps"] == 25 and about["codec"] == "h264"
    assert about["pix_fmt"].startswith("yuv420p")
    read = [np.frombuffer(frame, np.uint8).reshape(36, 52, 3) for frame in reader]
    assert len(read) == 7
    assert max(np.abs(a[:35, :51].astype(int) - b).max() for a, b in zip(read, frames, strict=True)) <= 6
    assert [f.name for f in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(
    "frames, name, message",
    [
        ([], "a.mp4", "at least one"),
        ([np.zeros((8, 8, 3))], "a.mp4", "uint8"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 6, 3), np.uint8)], "a.mp4", "one size"),
        ([np.zeros((8, 8, 3), np.uint8)], "a.gif", "mp4"),
    ],
)
def test_no_film_of_what_is_none(tmp_path, frames, name, message):
    with pytest.raises(my3dgen.My3DGenError, match=message):
        write_video(tmp_path / name, frames)
    assert not list(tmp_path.iterdir())


def test_a_depth_picture_shows_the_person_on_a_neutral_ground(prior, ws):
    shown = depth_picture(prior, ws, camera(0.0, 0.0, pivot=prior.config.camera_pivot))
    side = prior.config.output_resolution
    assert shown.shape == (side, side, 3) and shown.dtype == np.uint8
    assert (np.abs(shown[: side // 4, : side // 16].astype(int) - NEUTRAL) <= 2).mean() > 0.95
    middle = shown[side // 2 - 8 : side // 2 + 8, side // 2 - 8 : side // 2 + 8].astype(int)
    assert np.ptp(middle, axis=-1).min() > 60  # coloured


def test_export_writes_what_is_asked_for(prior, ws, tmp_path):
    stages = []
    written = export(
        prior, ws, ("glb", "png", "mp4", "depth"), tmp_path, resolution=24, frames=4,
        progress=lambda report: stages.append(report.stage),
    )  # fmt: skip
    assert set(written) == {"glb", "png", "mp4", "depth"} and {"mesh", "film"} == set(stages)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written.values())
    expected = prior.render(ws, camera(0.0, 0.0, pivot=prior.config.camera_pivot))
    got = np.asarray(Image.open(written["png"])).astype(float)
    assert np.abs(got - (expected.permute(1, 2, 0).numpy() + 1) * 127.5).max() <= 0.51


def test_a_stopped_export_keeps_what_there_is(prior, ws, tmp_path):
    assert set(export(prior, ws, ("glb", "png"), tmp_path, resolution=24, progress=lambda r: False)) == {
        "png"
    }


def test_export_takes_an_anchor_of_the_person(prior, ws, tmp_path):
    anchors = Anchors(torch.stack([ws, ws * 1.1]), camera(0, 0).expand(2, -1))
    me = SimpleNamespace(
        generator=prior.generator, config=prior.config, device=prior.device, num_ws=prior.num_ws,
        name=prior.name, require_latent=prior.require_latent, anchors=anchors,
    )  # fmt: skip
    first = export(me, formats="png", out=tmp_path / "a")["png"].read_bytes()
    assert first == export(prior, ws, "png", tmp_path / "b")["png"].read_bytes()
    assert first != export(me, formats="png", out=tmp_path / "c", anchor=1)["png"].read_bytes()
    with pytest.raises(my3dgen.My3DGenError, match="no anchor 2"):
        export(me, formats="png", out=tmp_path, anchor=2)


def test_export_refuses_what_it_cannot_do(prior, ws, tmp_path):
    for arguments, message in (
        ({"ws": ws, "formats": ("obj",)}, "formats of an export"),
        ({"ws": None}, "no face to export"),
        ({"ws": ws[0]}, "expects one latent"),
        (
            {"ws": ws, "formats": ("png", "mp4"), "frames": 2000},
            "frames is 2000; it must be a number from 1 to 1000",
        ),
        ({"ws": ws, "formats": ("png", "glb"), "resolution": 600}, "from 16 to 512"),
    ):
        with pytest.raises(my3dgen.My3DGenError, match=message):
            export(prior, out=tmp_path, **arguments)
    assert not list(tmp_path.iterdir())
