"""The drawing of synthetic people, as far as it needs no head model; and that z decodes into people."""

import dataclasses

import numpy as np
import pytest
import torch

from my3dgen.pretraining import (
    accessories,
    examples,
    hair,
    light,
    people,
    people_data,
    quality,
    raster,
    render,
    shading,
    skinmaps,
)


def test_the_z_buffer_keeps_the_nearest_triangle():
    near = [[2, 2, 1.0], [30, 2, 1.0], [2, 30, 1.0]]
    far = [[0, 0, 0.5], [64, 0, 0.5], [0, 64, 0.5]]
    behind = [[0, 0, -1.0], [64, 0, -1.0], [0, 64, -1.0]]
    screen = np.array([*far, *near, *behind], np.float32)
    faces = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]], np.int32)
    nearest, index, weights = raster.draw(screen, faces, 64, 64)
    assert index[5, 5] == 1 and nearest[5, 5] == pytest.approx(1)
    assert index[1, 40] == 0 and nearest[1, 40] == pytest.approx(0.5)
    assert index[63, 63] == -1 and nearest[63, 63] == 0
    w = weights[5, 5]
    at = w[0] * screen[3, :2] + w[1] * screen[4, :2] + (1 - w.sum()) * screen[5, :2]
    assert np.allclose(at, 5.5, atol=1e-4)


def test_spherical_harmonics_are_orthonormal():
    d = np.random.default_rng(0).standard_normal((200_000, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    y = light.basis(d)
    assert np.allclose(y.T @ y / len(d) * 4 * np.pi, np.eye(9), atol=0.02)


def test_light_comes_from_where_it_is():
    lamp = light.from_key([1, 0, 0], 1.5, np.ones(3), 0.3, np.ones(3), np.ones(3))
    sides = np.array([[1.0, 0, 0], [-1, 0, 0]], np.float32)
    lobe = light.basis(sides)
    e = light.irradiance(lamp, sides, lobe, lobe)
    assert (e[0] > 2 * e[1]).all() and (e > 0).all()


def test_everybody_decodes_into_a_drawable_person():
    rng = np.random.default_rng(1)
    for _ in range(300):
        z = people.sample(rng)
        assert np.mean(z**2) == pytest.approx(1, abs=1e-4)
        person = people.decode(z)
        for colour in (person.skin, person.lips, person.hair, person.iris, person.garment):
            assert np.isfinite(colour).all() and (colour >= 0).all() and (colour <= 1.01).all()
        assert all(0 <= v <= 1.5 for v in person.expression.values())
        assert 0 <= person.smile <= 1 and 0 <= person.age <= 1


def test_another_photo_is_the_same_person():
    rng = np.random.default_rng(2)
    z = people.sample(rng)
    other = people.another_photo(z, rng)
    for name in people.PERSON:
        a, b = z[people.SLICES[name]], other[people.SLICES[name]]
        assert np.allclose(a / np.linalg.norm(a), b / np.linalg.norm(b), atol=1e-4)  # only rescaled
    assert not np.allclose(z[people.SLICES["light"]], other[people.SLICES["light"]])


def test_the_skin_maps_put_lips_at_the_mouth_and_brows_above_the_eyes():
    landmarks = np.load("assets/face68.npz")["mean"] / 0.0247 - [0, 0, 0]
    landmarks[:, 1] -= landmarks[27, 1] - 3.74  # centimetres of the head model
    maps = skinmaps.maps(landmarks)

    def at(name, point):
        return skinmaps.look_up(maps[skinmaps.CHANNELS.index(name)], point[None, :2])[0]

    mouth = landmarks[48:60].mean(0)
    assert at("lips", mouth) > 0.9 and at("lips", landmarks[30]) < 0.1
    assert at("brow_distance", landmarks[24]) < 0.5 < at("brow_distance", landmarks[57])


def test_long_hair_is_geometry_and_short_hair_is_not():
    z = np.zeros(people.Z_DIM, np.float32)
    z[people.SLICES["hair"].start + 2] = 2.0
    vertices, _, faces = hair.curtain(people.decode(z), np.ones(3))
    assert len(vertices) > 100 and faces.max() < len(vertices)
    z[people.SLICES["hair"].start + 2] = -2.0
    assert len(hair.curtain(people.decode(z), np.ones(3))[0]) == 0


def test_example_people_are_not_training_people():
    """Nobody has the shape of the first people of a hundred shards, and no shard can have their seeds."""
    drawn = np.stack([people.sample(np.random.default_rng(seed)) for seed in range(100)])[
        :, people.SLICES["shape"]
    ]
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    shapes = []
    for who in examples.PEOPLE:
        assert 90_000 <= who.seed < quality.FIRST_SEED and len(who.marks) >= 2
        shapes.append(examples.identity(who)[people.SLICES["shape"]])
        assert (drawn @ shapes[-1]).max() < 0.8 * np.linalg.norm(shapes[-1])
    known = examples.identity(dataclasses.replace(examples.PEOPLE[0], seed=7))[people.SLICES["shape"]]
    assert (drawn @ known).max() > 0.99 * np.linalg.norm(known), "who is one of them is told"


def test_age_moves_flesh_down_and_youth_moves_nothing():
    points = np.array([[4.3, -5.4, 8.0], [-4.3, -5.4, 8.0], [0.0, 8.0, 10.0]], np.float32)
    assert not render.sag(points, 0.1).any()
    moved = render.sag(points, 1.0)
    assert moved[0, 1] < -0.3 and moved[0, 0] > 0 > moved[1, 0]
    assert np.abs(moved[2]).max() < 0.01  # the forehead stays


def test_training_looks_at_eyes_more_often_than_they_are_large():
    size, eyes = 64, (slice(28, 32), slice(20, 28))
    part = torch.full((1, size, size), shading.WALL, dtype=torch.uint8)
    part[0, 10:54, 10:54] = shading.SKIN
    part[0, eyes[0], eyes[1]] = shading.EYE
    landmarks = torch.full((1, 68, 2), 50.0)
    batch = people_data.Batch(
        torch.zeros(1, 4),
        torch.zeros(1, 25),
        torch.zeros(1, 3, size, size),
        torch.ones(1, size, size),
        part,
        landmarks,
    )
    chosen = people_data.pick_pixels(batch, np.random.default_rng(0), 3000)[0]
    assert chosen.min() >= 0 and chosen.max() < size * size
    share = (part.flatten()[chosen] == shading.EYE).float().mean()
    area = float((part == shading.EYE).float().mean())
    assert share > 4 * area
    weights = people_data.attention(batch)
    assert weights[0, 0, 30, 24] > weights[0, 0, 15, 15] > weights[0, 0, 5, 5] == 1
    # the rim, which would show as a frame
    assert weights[0, 0, 0, 30] == weights[0, 0, 30, -1] > weights[0, 0, 15, 15]


def test_a_pixels_depth_is_that_of_its_middle():
    """Two samples a side: a slope's mean is the middle's; at an edge only samples of the pixel's own part count."""
    at = np.arange(8) + 0.5  # samples, half a pixel apart
    depth = np.broadcast_to(2 + 0.1 * at, (8, 8)).astype(np.float32).copy()
    part = np.full((8, 8), shading.SKIN, np.uint8)
    _, middle = render._averaged(part, depth, 2)
    assert np.allclose(middle, 2 + 0.2 * (np.arange(4) + 0.5), atol=1e-6)
    part[:, :3], depth[:, :3] = shading.WALL, 9.0  # a half of the second pixel's samples
    chosen, middle = render._averaged(part, depth, 2)
    assert chosen[0].tolist() == [shading.WALL, *[shading.SKIN] * 3]
    assert np.allclose(middle[:, 0], 9.0) and np.allclose(middle[:, 1], depth[0, 3])


def test_a_frame_is_lit_from_outside_all_around():
    ring = np.linspace(0, 2 * np.pi, 33)
    path = np.stack([2.4 * np.cos(ring), 1.9 * np.sin(ring), 0 * ring], 1)
    vertices, _ = accessories.tube(path, 0.1)
    normals = accessories.normals(vertices)
    middle = np.repeat(path, accessories.SIDES + 1, axis=0)
    assert np.allclose(normals * 0.1, vertices - middle, atol=1e-5)
