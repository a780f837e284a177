"""The pixel shader: colour of what each pixel sees, from canonical coordinates and arriving light."""

from __future__ import annotations

import math

import numba
import numpy as np

from my3dgen.pretraining.skinmaps import HEIGHT, STEP, WIDTH, X0, Y0

# indices into facekit.MATERIALS
SKIN, MOUTH, TEETH, EYE, HAIR, GARMENT, WALL, GLASSES = range(8)

# the order of the scalar parameters that `pack` writes and the kernel reads
SCALARS = (
    "blush", "freckles", "mottle", "brow_width", "brow_density", "brow_lift_right", "brow_lift_left", "brow_reach",
    "hairline", "bald", "beard", "moustache", "age", "hair_part", "has_dye", "hair_curl", "makeup",
)  # fmt: skip
COLOURS = ("skin", "lips", "brow_colour", "iris", "hair", "dye", "garment", "glasses_colour")


def pack(person) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A person as arrays: scalars [S], linear colours [C, 3], marks [M, 11]."""
    extra = {
        "brow_lift_right": person.brow_lift[0],
        "brow_lift_left": person.brow_lift[1],
        "has_dye": 0.0 if person.dye is None else 1.0,
    }
    scalars = np.array([extra[n] if n in extra else getattr(person, n) for n in SCALARS], np.float32)
    colours = [person.hair if n == "dye" and person.dye is None else getattr(person, n) for n in COLOURS]
    marks = np.zeros((len(person.marks), 11), np.float32)
    for row, m in zip(marks, person.marks, strict=True):
        row[:] = [*m.start, *m.end, m.radius, *(np.array(m.colour) ** 2.2), m.strength]
    return scalars, np.array(colours, np.float32) ** 2.2, marks


@numba.njit(cache=True, fastmath=True)
def _clip(x, low, high):
    return min(max(x, low), high)


@numba.njit(cache=True, fastmath=True)
def _soft(x, low, high):
    t = _clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


@numba.njit(cache=True, fastmath=True)
def _at(channel, x, y):
    """Bilinear look-up of one skin map."""
    u = _clip((x - X0) / STEP - 0.5, 0.0, WIDTH - 1.001)
    v = _clip((y - Y0) / STEP - 0.5, 0.0, HEIGHT - 1.001)
    j, i = int(u), int(v)
    fu, fv = u - j, v - i
    return (channel[i, j] * (1 - fu) + channel[i, j + 1] * fu) * (1 - fv) + (
        channel[i + 1, j] * (1 - fu) + channel[i + 1, j + 1] * fu
    ) * fv


@numba.njit(cache=True, fastmath=True)
def _strands(a, b):
    """A strand-like pattern in about [0, 1]: fast across (a), slow along (b)."""
    s = (
        math.sin(9.0 * a + 1.7 * math.sin(0.8 * b))
        + 0.7 * math.sin(17.3 * a - 1.1 * b)
        + 0.5 * math.sin(31.0 * a + 0.9 * b)
    )
    return 0.5 + 0.22 * s


@numba.njit(cache=True, fastmath=True)
def _hair_colour(out, x, a, b, scalars, colours):
    blend = 0.0
    if scalars[14] > 0:
        blend = _soft(x, 0.2, 1.2)  # dyed on the person's left
    shade = 0.62 + 0.6 * _strands(a, b)
    for c in range(3):
        out[c] = (colours[4, c] * (1 - blend) + colours[5, c] * blend) * shade


@numba.njit(cache=True, fastmath=True)
def _wrinkled(age):
    """How deep the wrinkles of an age in [0, 1] are, in [0, 1]."""
    return _clip((age - 0.3) / 0.6, 0, 1)


@numba.njit(cache=True, fastmath=True)
def _relief(x, y, z, key, maps, age):
    """Light gained or lost where the skin's relief (wrinkles, pores) leans to or from the key light."""
    dx, dy = 0.07 * key[0], 0.07 * key[1]
    lean = _at(maps[8], x + dx, y + dy) - _at(maps[8], x - dx, y - dy)
    pores = _at(maps[10], x + dx, y + dy) - _at(maps[10], x - dx, y - dy)
    return 1 + _soft(z, 1.0, 4.0) * (0.42 * _wrinkled(age) * lean + 0.05 * pores)


@numba.njit(cache=True, fastmath=True)
def _skin(out, x, y, z, inside, maps, scalars, colours):
    """Linear albedo of skin, brows, lips and everything painted on them. `inside`: cm inside the hair."""
    front = _soft(z, 1.0, 4.0)
    mottle = 1 + 0.045 * scalars[2] * _at(maps[10], x, y)
    blush = scalars[0] * _at(maps[4], x, y) * front
    ear = _soft(abs(x), 7.6, 8.6) * 0.35 * scalars[0]
    for c in range(3):
        out[c] = colours[0, c] * mottle
    out[1] *= 1 - 0.30 * (blush + ear)
    out[2] *= 1 - 0.26 * (blush + ear)
    if front > 0:
        freckle = scalars[1] * _clip(_at(maps[9], x, y), 0, 1) * front
        tired = (0.12 + 0.2 * scalars[12]) * _at(maps[7], x, y) * front
        crease = 0.5 * _wrinkled(scalars[12]) * _at(maps[8], x, y) * front
        spot = 0.4 * _clip(2 * scalars[12] - 1, 0, 1) * _at(maps[11], x, y) * front
        shadow = 0.5 * scalars[16] * _at(maps[12], x, y) * front
        out[0] *= (1 - 0.25 * freckle) * (1 - tired) * (1 - crease) * (1 - 0.7 * spot) * (1 - 0.8 * shadow)
        out[1] *= (1 - 0.45 * freckle) * (1 - tired * 1.15) * (1 - crease * 1.1) * (1 - spot) * (1 - shadow)
        out[2] *= (
            (1 - 0.55 * freckle) * (1 - tired) * (1 - crease * 1.1) * (1 - 1.1 * spot) * (1 - 0.75 * shadow)
        )
        lips = _at(maps[0], x, y) * front
        for c in range(3):
            out[c] += (colours[1, c] * (0.92 + 0.08 * math.sin(9 * x)) - out[c]) * lips * 0.92
        # beard and moustache: hair colour by density with a grain
        grain = 0.86 + 0.14 * math.sin(27.0 * x + 2.5 * math.sin(2.1 * y + x)) * math.sin(
            6.0 * y + 4 * math.sin(3.1 * x)
        )
        hairy = _clip(scalars[10] * _at(maps[5], x, y) * 1.25, 0, 1) * grain
        hairy = max(hairy, _clip(scalars[11] * _at(maps[6], x, y) * 1.2, 0, 1) * grain) * front
        hairy = _clip(hairy, 0, 0.96)
        for c in range(3):
            out[c] += (colours[4, c] * 0.8 - out[c]) * hairy
        lift = scalars[5] if x < 0 else scalars[6]
        d, s = _at(maps[1], x, y - lift), _at(maps[2], x, y - lift)
        width = scalars[3] * (1.05 - 0.75 * s * s)
        stroke = 0.9 + 0.1 * math.sin(38 * abs(x) + 14 * (y - lift)) * math.sin(11 * x + 3)
        brow = (
            _soft(width - d, -0.12, 0.2)
            * scalars[4]
            * stroke
            * _soft(scalars[7] + 0.08 - s, 0.0, 0.18)
            * front
        )
        lash = _at(maps[3], x, y) * front
        for c in range(3):
            out[c] += (colours[2, c] - out[c]) * _clip(brow, 0, 1)
            out[c] *= 1 - (0.66 + 0.3 * scalars[16]) * lash
    # stubble of a shaved scalp and the soft hairline
    ragged = (
        0.10 * math.sin(4.3 * x + 1.0)
        + 0.10 * math.sin(11.0 * x + 2 * y) * math.sin(5 * x)
        + 0.06 * math.sin(29 * x)
    )
    hair = _soft(inside + ragged, -0.3, 0.5)
    if hair > 0:
        tint = np.empty(3, np.float32)
        _hair_colour(tint, x, math.atan2(x - scalars[13], max(y - 4.0, 0.5)) * 3.5, z, scalars, colours)
        for c in range(3):
            out[c] += (tint[c] - out[c]) * hair
    return hair


@numba.njit(cache=True, fastmath=True)
def _eye(out, x, y, eye_x, eye_y, colours):
    """Sclera, iris with a limbal ring, pupil. Returns the gloss."""
    r = math.hypot(abs(x) - eye_x, y - eye_y)
    a = math.atan2(y - eye_y, abs(x) - eye_x)
    iris = _soft(0.62 - r, 0.0, 0.07)
    pupil = _soft(0.25 - r, 0.0, 0.06)
    ring = _soft(r, 0.44, 0.62)
    pattern = 0.85 + 0.25 * math.sin(23 * a) * math.sin(7 * a + 9 * r) + 0.25 * _soft(0.45 - r, 0.0, 0.3)
    for c in range(3):
        white = (0.78, 0.74, 0.72)[c] * (1 - 0.25 * _soft(r, 0.7, 1.3))
        coloured = colours[3, c] * pattern * (1 - 0.65 * ring)
        out[c] = (white * (1 - iris) + coloured * iris) * (1 - pupil) + 0.004 * pupil


@numba.njit(cache=True, fastmath=True)
def shade(
    index, weights, nearest, screen, faces, material, canonical, normals, irradiance, inside, maps,
    scalars, colours, marks, eye, key, key_colour, wall, camera, focal, lens, out, part, depth,
):  # fmt: skip
    """Colour every pixel.

    Args:
        index, weights, nearest: what `raster.draw` returned.
        canonical, normals, irradiance [V, 3] and inside [V] (cm inside the hair): vertex attributes.
        eye: [2] canonical x (of the left eye) and y of the eyes' centre.
        wall: [2, 3] linear colours; the wall is the plane z = wall_z, given as lens[2].
        camera: [4, 4] camera-to-world; focal in pixels; lens: [3] centre x, centre y (pixels), wall z.
        out: float32 [H, W, 3], filled with linear colour; part uint8 [H, W]; depth float32 [H, W] along the ray.
    """
    height, width = index.shape
    albedo = np.empty(3, np.float32)
    for i in range(height):
        for j in range(width):
            dx, dy = (j + 0.5 - lens[0]) / focal, (i + 0.5 - lens[1]) / focal
            norm = math.sqrt(dx * dx + dy * dy + 1)
            rx = (camera[0, 0] * dx + camera[0, 1] * dy + camera[0, 2]) / norm
            ry = (camera[1, 0] * dx + camera[1, 1] * dy + camera[1, 2]) / norm
            rz = (camera[2, 0] * dx + camera[2, 1] * dy + camera[2, 2]) / norm
            t = index[i, j]
            if t < 0:
                distance = (lens[2] - camera[2, 3]) / min(rz, -1e-3)
                height_on_wall = camera[1, 3] + distance * ry
                mix = _soft(height_on_wall, -0.45, 0.45)
                for c in range(3):
                    out[i, j, c] = wall[0, c] * (1 - mix) + wall[1, c] * mix
                part[i, j] = WALL
                depth[i, j] = distance
                continue
            a, b, c_ = faces[t, 0], faces[t, 1], faces[t, 2]
            inverse = nearest[i, j]
            wa = weights[i, j, 0] * screen[a, 2] / inverse
            wb = weights[i, j, 1] * screen[b, 2] / inverse
            wc = 1 - wa - wb
            depth[i, j] = norm / inverse
            x = wa * canonical[a, 0] + wb * canonical[b, 0] + wc * canonical[c_, 0]
            y = wa * canonical[a, 1] + wb * canonical[b, 1] + wc * canonical[c_, 1]
            z = wa * canonical[a, 2] + wb * canonical[b, 2] + wc * canonical[c_, 2]
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c_, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c_, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c_, 2]
            kind = material[t]
            gloss, power, hair, relief = 0.035, 14.0, 0.0, 1.0
            if kind == SKIN:
                deep = wa * inside[a] + wb * inside[b] + wc * inside[c_]
                hair = _skin(albedo, x, y, z, deep, maps, scalars, colours)
                gloss = 0.05 + 0.05 * _at(maps[0], x, y)
                relief = _relief(x, y, z, key, maps, scalars[12])
                for m in range(marks.shape[0]):
                    ex, ey, ez = (
                        marks[m, 3] - marks[m, 0],
                        marks[m, 4] - marks[m, 1],
                        marks[m, 5] - marks[m, 2],
                    )
                    px, py, pz = x - marks[m, 0], y - marks[m, 1], z - marks[m, 2]
                    length = ex * ex + ey * ey + ez * ez
                    s = _clip((px * ex + py * ey + pz * ez) / max(length, 1e-6), 0, 1)
                    # depth counts little: a mark is painted on the skin, whatever the relief under it
                    d = math.sqrt((px - s * ex) ** 2 + (py - s * ey) ** 2 + 0.15 * (pz - s * ez) ** 2)
                    on = _soft(marks[m, 6] - d, -0.05, 0.06) * marks[m, 10]
                    for c in range(3):
                        albedo[c] += (marks[m, 7 + c] - albedo[c]) * on
            elif kind == MOUTH:
                albedo[0], albedo[1], albedo[2] = 0.16, 0.035, 0.035
            elif kind == TEETH:
                # little light reaches the teeth at the sides
                light = 1 - 0.85 * _soft(abs(x), 0.9, 2.3)
                albedo[0], albedo[1], albedo[2] = 0.66 * light, 0.60 * light, 0.53 * light
                gloss = 0.08 * light
            elif kind == EYE:
                _eye(albedo, x, y, eye[0], eye[1], colours)
                gloss, power = 0.5, 90.0
            elif kind == HAIR:
                _hair_colour(albedo, math.sin(x / 6.0) * 8, x * 1.6, y * 0.5, scalars, colours)
                hair = 1.0
            elif kind == GARMENT:
                weave = 0.96 + 0.04 * math.sin(20 * x) * math.sin(20 * y)
                for c in range(3):
                    albedo[c] = colours[6, c] * weave
                gloss = 0.0
            elif kind == GLASSES:
                for c in range(3):
                    albedo[c] = colours[7, c]
                gloss, power = 0.3, 40.0
            # towards the viewer, so that both sides of thin sheets are lit
            length = max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-6)
            flip = -1.0 if nx * rx + ny * ry + nz * rz > 0 else 1.0
            nx, ny, nz = flip * nx / length, flip * ny / length, flip * nz / length
            hx, hy, hz = key[0] - rx, key[1] - ry, key[2] - rz
            h = math.sqrt(hx * hx + hy * hy + hz * hz)
            cosine = max((nx * hx + ny * hy + nz * hz) / h, 0.0)
            if hair > 0.5:
                gloss, power = 0.06, 10.0
            shine = gloss * cosine**power
            open_ = 0.0
            for c in range(3):
                e = wa * irradiance[a, c] + wb * irradiance[b, c] + wc * irradiance[c_, c]
                open_ += e / 3
                out[i, j, c] = albedo[c] * e * relief
            for c in range(3):
                out[i, j, c] += shine * key_colour[c] * min(open_, 1.0)
            part[i, j] = HAIR if hair > 0.5 else kind
