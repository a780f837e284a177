"""Who is in the picture: a standard normal vector z decoded into everything that is not the camera."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import ndtr

from my3dgen.pretraining import light as lighting

# the parts of z, in order; z ~ N(0, I) gives people
LAYOUT = {
    "shape": 48,
    "expression": 12,
    "skin": 6,
    "lips": 2,
    "brows": 5,
    "eyes": 3,
    "gaze": 2,
    "hair": 14,
    "beard": 3,
    "age": 1,
    "garment": 3,
    "light": 9,
    "background": 8,
    "glasses": 3,
}
Z_DIM = sum(LAYOUT.values())  # 119
_ENDS = np.cumsum(list(LAYOUT.values()))
SLICES = {n: slice(int(e) - s, int(e)) for (n, s), e in zip(LAYOUT.items(), _ENDS, strict=True)}
# what stays the same from one photo of a person to the next
PERSON = ("shape", "skin", "lips", "brows", "eyes", "hair", "beard", "age", "glasses")
PHOTO = ("expression", "gaze", "garment", "light", "background")

_SKIN_TONES = np.array(  # sRGB, light to dark
    [
        [244, 212, 192],
        [234, 194, 168],
        [218, 172, 142],
        [194, 146, 114],
        [158, 112, 84],
        [124, 86, 64],
        [96, 67, 52],
    ],
    np.float32,
)
_HAIR_TONES = np.array(
    [[22, 18, 17], [42, 29, 22], [70, 46, 31], [104, 68, 40], [122, 62, 34], [158, 114, 66], [206, 170, 112]],
    np.float32,
)
_EYE_TONES = np.array(
    [[52, 30, 18], [92, 56, 28], [112, 92, 48], [92, 112, 82], [98, 128, 152], [120, 156, 186]], np.float32
)


@dataclass(frozen=True)
class Mark:
    """A personal mark on the skin: a segment in canonical centimetres with a radius and a colour."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float
    colour: tuple[float, float, float]  # sRGB in [0, 1]
    strength: float = 0.9


@dataclass(frozen=True)
class Person:
    """Decoded parameters of one person in one photo. Colours are sRGB in [0, 1]."""

    shape: np.ndarray  # [48] standard deviations
    expression: dict[str, float]  # FaceKit weight names
    skin: np.ndarray  # [3]
    blush: float  # redness of cheeks, nose and ears
    freckles: float  # 0 none, 1 many
    mottle: float  # unevenness of the skin
    lips: np.ndarray  # [3]
    brow_colour: np.ndarray  # [3]
    brow_width: float  # cm
    brow_density: float
    brow_lift: tuple[float, float]  # cm, right and left brow
    brow_reach: float  # where the outer end fades, 0..1.2
    iris: np.ndarray  # [3]
    gaze: tuple[float, float]  # radians, yaw and pitch
    hair: np.ndarray  # [3]
    dye: np.ndarray | None  # [3] colour of dyed hair on one side, or None
    hair_length: float  # 0 short, 1 to the shoulders and below
    hair_volume: float  # cm above the scalp
    hair_top: float  # extra cm on the crown
    hairline: float  # cm that the forehead hairline lies higher
    hair_opening: float  # radians from the front where long hair begins
    hair_curl: float
    hair_part: float  # where the parting lies, cm
    bald: float  # 0..1
    fringe: float  # 0 none .. 1 down to the brows
    fringe_sweep: float  # -1..1, to which side it falls
    bun: float  # cm, radius of a knot on the crown; 0 none
    afro: float  # cm that tight curls add all around
    beard: float  # 0..1 density
    moustache: float
    beard_length: float  # cm
    age: float  # 0 young .. 1 old
    makeup: float  # 0..1, on lids, lashes and lips
    smile: float  # 0..1, the label
    garment: np.ndarray  # [3]
    glasses: float  # cm, radius of the frame; 0 none
    glasses_size: float  # 1 is usual
    glasses_colour: np.ndarray  # [3]
    light: lighting.Light
    wall: np.ndarray  # [2, 3] colours the wall blends between
    marks: tuple[Mark, ...] = field(default=())


def _ramp(colours: np.ndarray, u: float) -> np.ndarray:
    """Colour at position u in [0, 1] of a list of colours."""
    x = u * (len(colours) - 1)
    i = min(int(x), len(colours) - 2)
    return (colours[i] + (colours[i + 1] - colours[i]) * (x - i)) / 255


def _pos(x: float, gain: float, offset: float = 0.0, top: float = 1.0) -> float:
    return float(np.clip(gain * x + offset, 0, top))


def decode(z: np.ndarray) -> Person:
    """Turn z [Z_DIM] ~ N(0, I) into a person. Continuous nearly everywhere, so that a smooth network can learn it."""
    part = {name: z[s] for name, s in SLICES.items()}
    e = part["expression"]
    smile = _pos(e[0], 0.38, 0.22)
    skew = float(np.clip(0.18 * e[10], -0.4, 0.4))
    expression = {
        "mouthSmile_L": smile * (1 + skew),
        "mouthSmile_R": smile * (1 - skew),
        "cheekSquint": 0.5 * smile,
        "jawOpen": _pos(e[1], 0.22, -0.04, 0.65),
        "mouthPucker": _pos(e[2], 0.3, -0.18) * (1 - smile),
        "mouthFrown": _pos(e[3], 0.4, -0.2) * (1 - smile),
        "browInnerUp": _pos(e[4], 0.4, -0.05),
        "browOuterUp": _pos(e[4], 0.35, -0.1),
        "browDown": _pos(-e[4], 0.4, -0.05),
        "eyeBlink": _pos(e[5], 0.14, 0.0, 0.45),
        "eyeWide": _pos(-e[5], 0.35, -0.05),
        "eyeSquint": _pos(e[6], 0.3, 0.0),
        "mouthUpperUp": _pos(e[7], 0.25, -0.12 + 0.3 * smile, 0.8),
        "mouthLowerDown": _pos(e[7], 0.2, -0.1, 0.6),
        "noseSneer": _pos(e[8], 0.15, -0.1, 0.5),
        "mouthLeft": _pos(e[9], 0.12, -0.05, 0.3),
        "mouthRight": _pos(-e[9], 0.12, -0.05, 0.3),
        "mouthPress": _pos(e[11], 0.25, -0.15, 0.7),
    }
    skin_z, hair_z, brow_z, eye_z = part["skin"], part["hair"], part["brows"], part["eyes"]
    age = float(ndtr(part["age"][0] - 0.45))
    tone = float(ndtr(skin_z[0]))
    skin = _ramp(_SKIN_TONES, tone)
    skin = np.clip(skin * (1 + 0.025 * np.array([1, -0.2, -0.8]) * skin_z[1]), 0.03, 0.98)
    # dark skin rarely comes with light hair or eyes
    hair_u = float(ndtr(hair_z[0])) * (1 - 0.75 * tone)
    hair = _ramp(_HAIR_TONES, hair_u)
    grey = float(np.clip((age - 0.62) / 0.25 + 0.2 * hair_z[1], 0, 1) * np.clip((age - 0.45) / 0.15, 0, 1))
    hair = hair * (1 - grey) + np.array([0.68, 0.67, 0.66]) * grey
    lips_z = part["lips"]
    makeup = _pos(skin_z[5], 0.5, -0.3) * (1 - 0.6 * age)
    lips = np.clip(
        skin * np.array([0.88, 0.66, 0.66]) + 0.03 * lips_z[0] * np.array([1, -0.6, -0.4]) + 0.02 * lips_z[1],
        0.05,
        0.95,
    )
    lips = lips + (skin * [0.92, 0.78, 0.76] - lips) * 0.45 * age  # lips pale with the years
    lips = lips + (np.array([0.62, 0.10, 0.15]) - lips) * 0.6 * makeup
    afro = _pos(hair_z[12], 3.4, -3.2, 4.4)
    length = _pos(hair_z[2], 0.55, -0.02) * max(1 - afro / 1.5, 0)
    bald = _pos(hair_z[6], 0.6, -0.75) * (1 - length)
    beard_z = part["beard"]
    beard = _pos(beard_z[0], 0.6, -0.25) * (1 - min(length * 2, 1)) * (1 - min(2 * makeup, 1))
    garment = np.clip(0.38 + 0.25 * part["garment"], 0.04, 0.95)
    bg = part["background"]
    wall = np.clip(
        np.stack([0.52 + 0.2 * bg[0] + 0.07 * bg[1:4], 0.52 + 0.2 * bg[4] + 0.07 * bg[5:8]]), 0.03, 0.98
    )
    return Person(
        shape=np.clip(part["shape"], -2.6, 2.6),
        expression=expression,
        skin=skin,
        blush=_pos(skin_z[2], 0.25, 0.35) * (1 - 0.5 * tone),
        freckles=_pos(skin_z[3], 0.5, -0.45) * (1 - 0.8 * tone),
        mottle=_pos(skin_z[4], 0.2, 0.4),
        lips=lips,
        brow_colour=np.clip(hair * 0.72, 0.02, 0.7) * (1 - 0.35 * grey) + 0.2 * grey,
        brow_width=float(np.clip(0.36 + 0.09 * brow_z[0], 0.18, 0.62)),
        brow_density=float(np.clip(0.72 + 0.16 * brow_z[1] - 0.2 * max(age - 0.5, 0), 0.25, 0.98)),
        brow_lift=(float(0.15 * np.clip(brow_z[2], -2, 2)),) * 2,
        brow_reach=float(np.clip(0.95 + 0.1 * brow_z[3], 0.7, 1.15)),
        iris=_ramp(_EYE_TONES, float(ndtr(eye_z[0])) * (1 - 0.8 * tone))
        * float(np.clip(1 + 0.15 * eye_z[1], 0.6, 1.4)),
        gaze=(float(0.12 * np.clip(part["gaze"][0], -2, 2)), float(0.07 * np.clip(part["gaze"][1], -2, 2))),
        hair=hair,
        dye=None,
        hair_length=length,
        hair_volume=float(np.clip(0.75 + 0.35 * hair_z[3], 0.12, 1.8)) * (1 - 0.8 * bald),
        hair_top=float(np.clip(0.7 + 0.6 * hair_z[4], 0.0, 2.4)) * (1 - bald),
        hairline=float(np.clip(0.5 * hair_z[5] + 1.2 * max(age - 0.6, 0), -0.9, 1.6)),
        hair_opening=float(np.clip(1.15 + 0.16 * hair_z[7], 0.8, 1.5)),
        hair_curl=_pos(hair_z[8], 0.5, 0.1),
        hair_part=float(2.2 * np.tanh(hair_z[9])),
        bald=bald,
        fringe=_pos(hair_z[10], 0.9, -0.4) * (1 - bald),
        fringe_sweep=float(np.tanh(hair_z[13])),
        bun=_pos(hair_z[11], 2.4, -2.0, 2.9) * (1 - bald) * max(1 - afro, 0),
        afro=afro * (1 - bald),
        beard=beard,
        moustache=_pos(beard_z[1], 0.5, -0.15) * (1 if beard > 0 else 0) * min(1.0, beard * 3),
        beard_length=_pos(beard_z[2], 0.35, 0.2, 1.2) * beard,
        age=age,
        makeup=makeup,
        smile=smile,
        garment=garment,
        glasses=_pos(part["glasses"][0], 0.4, -0.33, 0.17),
        glasses_size=float(np.clip(1 + 0.1 * part["glasses"][1], 0.8, 1.2)),
        glasses_colour=np.array([0.06, 0.05, 0.05])
        + np.array([0.30, 0.17, 0.08]) * float(ndtr(part["glasses"][2] - 0.7)),
        light=_light(part["light"]),
        wall=wall,
    )


def _light(z: np.ndarray) -> lighting.Light:
    azimuth, elevation = 0.7 * np.clip(z[0], -2, 2), 0.5 + 0.3 * np.clip(z[1], -2, 2)
    direction = [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    strength = 1.55 * np.exp(0.25 * np.clip(z[2], -2, 2))
    warm = 0.05 * z[3]
    tint = 0.04 * z[4]
    return lighting.from_key(
        direction,
        strength,
        np.array([1 + warm, 1.0, 1 - warm]),
        ambient=0.70 * np.exp(0.2 * np.clip(z[5], -2, 2)),
        sky=np.array([1 - tint, 1.0, 1 + tint]) * (1 + 0.1 * z[6]),
        ground=np.array([1 + tint, 1.0, 1 - tint]) * 0.75 * (1 + 0.1 * z[7]),
    )


def sample(rng: np.random.Generator) -> np.ndarray:
    """z of a random person in a random photo, float32 [Z_DIM], mean square 1 as the mapping network will see it."""
    return normalise(rng.standard_normal(Z_DIM))


def another_photo(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same person on another occasion: expression, gaze, garment, light and background drawn anew.

    The length of z is one for all, so what stays is scaled with what is new: by some 4%, as a face is in other photos.
    """
    out = z.copy()
    for name in PHOTO:
        out[SLICES[name]] = rng.standard_normal(LAYOUT[name])
    return normalise(out)


def normalise(z: np.ndarray) -> np.ndarray:
    """Mean square 1, float32: the mapping network drops the length of z, so people must not depend on it."""
    return (z / np.sqrt(np.mean(z**2))).astype(np.float32)


def random_marks(
    rng: np.random.Generator, kit_mean: np.ndarray, front: np.ndarray, count: int
) -> tuple[Mark, ...]:
    """Moles and scars at random places of the front of the face.

    Args:
        kit_mean: [V, 3] the mean head; front: indices of its facial skin vertices.
    """
    marks = []
    for i in range(count):
        p = kit_mean[rng.choice(front)]
        if i % 3 == 2:  # a scar: a short pale line
            q = p + np.array([rng.uniform(-1.2, 1.2), rng.uniform(-1.4, 1.4), 0])
            marks.append(Mark(tuple(p), tuple(q), 0.13, (0.93, 0.72, 0.68), 0.75))
        else:
            radius = rng.uniform(0.2, 0.36)
            marks.append(Mark(tuple(p), tuple(p), radius, (0.2, 0.11, 0.08), 0.92))
    return tuple(marks)


def with_marks(person: Person, **changes) -> Person:
    """The person with marks, an asymmetric brow or dyed hair (fields of Person)."""
    return replace(person, **changes)
