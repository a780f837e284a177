"""The example people: photos as a phone takes them, of people the prior was never trained on, with personal marks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from my3dgen import layout
from my3dgen.cameras import camera as orbit_camera
from my3dgen.evaluation.protocol import fit_person, read_person
from my3dgen.evaluation.reconstruction import to_other_photos
from my3dgen.pretraining import facekit, people, render
from my3dgen.pretraining.people import Mark
from my3dgen.pretraining.shading import WALL
from my3dgen.writing import replacing

SIZE = (640, 800)  # width, height of a photo
REFERENCES, TESTS = 10, 4  # photos to personalize with, photos held out


@dataclass(frozen=True)
class ExamplePerson:
    """One person of `examples/`."""

    name: str
    seed: int
    about: str  # the personal marks, in words
    set_z: dict[str, dict[int, float]] = field(default_factory=dict)  # part of z -> entries to fix
    marks: tuple[Mark, ...] = ()
    changes: dict = field(default_factory=dict)  # fields of Person set after decoding


PLAIN_HAIR = {10: -1.0, 11: -1.0, 12: -1.0}  # no fringe, no bun, no afro
MOLE, SCAR = (0.17, 0.09, 0.07), (0.95, 0.74, 0.70)

PEOPLE = (
    ExamplePerson(
        "Ada",
        90001,
        "a mole on the left cheek, a copper streak in her hair on the left",
        {
            "hair": {0: 0.3, 2: 1.2, 3: 0.3, 6: -1.0} | PLAIN_HAIR,
            "beard": {0: -1.5},
            "age": {0: -0.8},
            "skin": {0: -0.8},
            "glasses": {0: -1.0},
        },
        (
            Mark((4.1, -0.9, 8.9), (4.1, -0.9, 8.9), 0.34, MOLE, 0.95),
            Mark((2.6, -4.9, 9.9), (2.6, -4.9, 9.9), 0.22, MOLE, 0.95),
        ),
        {"dye": np.array([0.80, 0.36, 0.14])},
    ),
    ExamplePerson(
        "Bruno",
        90002,
        "a scar across the right cheek, a broken right brow, a mole under the left eye",
        {
            "hair": {0: 0.0, 2: -1.5, 6: -0.8} | PLAIN_HAIR,
            "glasses": {0: -1.0},
            "beard": {0: 1.0, 1: 0.8, 2: 0.5},
            "age": {0: 0.2},
            "skin": {0: -0.2, 5: -1.0},
        },
        (
            Mark((-5.0, 1.2, 8.2), (-3.3, -2.6, 9.4), 0.24, SCAR, 0.9),
            Mark((-3.6, 5.0, 9.8), (-3.2, 6.9, 9.9), 0.2, (0.86, 0.66, 0.58), 0.9),
            Mark((3.4, 1.6, 9.3), (3.4, 1.6, 9.3), 0.27, MOLE, 0.95),
        ),
    ),
    ExamplePerson(
        "Chidi",
        90003,
        "a raised left brow, two moles by the nose, a pale scar on the forehead",
        {
            "hair": {2: -1.5, 3: -1.2, 4: -0.6, 6: -0.5} | PLAIN_HAIR,
            "glasses": {0: -1.0},
            "beard": {0: 0.7, 1: 1.2},
            "age": {0: -0.3},
            "skin": {0: 1.35, 5: -1.0},
        },
        (
            Mark((2.2, -0.2, 10.2), (2.2, -0.2, 10.2), 0.27, (0.06, 0.03, 0.03), 0.95),
            Mark((-2.9, 0.8, 9.8), (-2.9, 0.8, 9.8), 0.24, (0.06, 0.03, 0.03), 0.95),
            Mark((-2.6, 8.6, 9.9), (-0.6, 9.4, 10.5), 0.2, (0.74, 0.55, 0.46), 0.85),
        ),
        {"brow_lift": (-0.1, 0.5)},
    ),
    ExamplePerson(
        "Mei",
        90004,
        "a birthmark on the right cheek, a mole above the lip, a blue streak in her hair",
        {
            "hair": {0: -1.4, 2: 0.8, 3: 0.4, 6: -1.0, 10: 1.3, 11: -1.0, 12: -1.0, 13: 0.3},
            "glasses": {0: -1.0},
            "beard": {0: -1.5},
            "age": {0: -1.0},
            "skin": {0: -0.3},
            "eyes": {0: -1.2},
        },
        (
            Mark((-4.6, 0.2, 8.9), (-4.0, -0.6, 9.2), 0.55, (0.62, 0.26, 0.25), 0.7),
            Mark((1.9, -1.9, 10.6), (1.9, -1.9, 10.6), 0.24, MOLE, 0.95),
        ),
        {"dye": np.array([0.18, 0.34, 0.72])},
    ),
    ExamplePerson(
        "Noor",
        90005,
        "round hair, a mole between the brows, a scar through the left brow, a beauty spot on the chin",
        {
            "hair": {0: -1.2, 2: -1.5, 4: 0.0, 6: -1.0, 8: 0.8, 10: -1.0, 11: -1.0, 12: 1.7},
            "beard": {0: -1.5},
            "age": {0: -0.9},
            "skin": {0: 0.55},
            "glasses": {0: -1.0},
        },
        (
            Mark((0.3, 6.0, 11.2), (0.3, 6.0, 11.2), 0.25, (0.10, 0.05, 0.04), 0.95),
            Mark((3.1, 5.2, 10.0), (3.7, 7.2, 9.8), 0.2, (0.86, 0.68, 0.60), 0.9),
            Mark((-1.2, -6.0, 10.6), (-1.2, -6.0, 10.6), 0.24, (0.10, 0.05, 0.04), 0.95),
        ),
    ),
    ExamplePerson(
        "Otto",
        90006,
        "glasses, a raised right brow, a port-wine stain on the left temple",
        {
            "hair": {0: 0.5, 1: 1.5, 2: -1.5, 5: 1.0, 6: 0.4} | PLAIN_HAIR,
            "beard": {0: -0.2, 1: 1.0},
            "age": {0: 1.9},
            "skin": {0: -1.1, 5: -1.0},
            "glasses": {0: 1.6, 1: 0.2, 2: 0.9},
        },
        (
            Mark((5.6, 4.6, 7.2), (5.2, 6.4, 7.6), 0.8, (0.55, 0.18, 0.22), 0.75),
            Mark((-3.2, -1.0, 9.6), (-3.2, -1.0, 9.6), 0.26, MOLE, 0.95),
        ),
        {"brow_lift": (0.5, -0.1)},
    ),
)


def photo(
    kit, z: np.ndarray, who: ExamplePerson, rng: np.random.Generator, spread: float = 1.0
) -> np.ndarray:
    """One photo uint8 [800, 640, 3]: off-centre framing, a room or a garden behind, a camera's faults."""
    person = people.with_marks(people.decode(people.another_photo(z, rng)), marks=who.marks, **who.changes)
    yaw, pitch = np.clip(rng.normal(0, 0.3 * spread), -0.6, 0.6), np.clip(rng.normal(0, 0.14), -0.3, 0.3)
    camera = np.asarray(orbit_camera(yaw, pitch, rng.normal(0, 0.06)), np.float64).copy()
    zoom = rng.uniform(0.72, 0.9)
    camera[[16, 20]] *= zoom
    camera[[18, 21]] += rng.uniform(-0.05, 0.05, 2)
    view = render.draw(kit, person, render.build(kit, person), camera, SIZE[1], 2)
    side = (SIZE[1] - SIZE[0]) // 2
    image, part = view.image[:, side:-side].astype(np.float32), view.part[:, side:-side]
    wall = cv2.GaussianBlur((part == WALL).astype(np.float32), (0, 0), 1.0)[..., None]
    image = image * (1 - wall) + backdrop(rng, *SIZE) * wall
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9))
    image = image * rng.uniform(0.92, 1.06) + rng.normal(0, rng.uniform(1, 3.5), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def backdrop(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """An out-of-focus place: a wall with things on it, or greenery under a sky; float [H, W, 3], 0..255."""
    top, bottom = (rng.uniform(70, 205) + rng.normal(0, 14, 3) for _ in range(2))
    outdoors = rng.random() < 0.4
    if outdoors:
        top, bottom = (
            np.array([165, 190, 215.0]) + rng.normal(0, 12, 3),
            np.array([90, 115, 70.0]) + rng.normal(0, 18, 3),
        )
    ramp = np.linspace(0, 1, height)[:, None, None] ** 1.2
    image = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3)).astype(np.float32).copy()
    for _ in range(int(rng.integers(5, 14))):
        colour = (top * 0.5 + bottom * 0.5 + rng.normal(0, 26) + rng.normal(0, 14, 3)).clip(10, 245).tolist()
        x, y = rng.uniform(0, width), rng.uniform(height * (0.35 if outdoors else 0), height)
        w, h = rng.uniform(40, 220, 2)
        if outdoors:
            cv2.ellipse(
                image, (int(x), int(y)), (int(w / 2), int(h / 2)), rng.uniform(0, 180), 0, 360, colour, -1
            )
        else:
            cv2.rectangle(
                image, (int(x - w / 2), int(y - h / 2)), (int(x + w / 2), int(y + h / 2)), colour, -1
            )
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(9, 18))


def identity(who: ExamplePerson) -> np.ndarray:
    """The person's z (without a photo's accidents)."""
    z = people.sample(np.random.default_rng(who.seed))
    for part, entries in who.set_z.items():
        for index, value in entries.items():
            z[people.SLICES[part].start + index] = value
    return people.normalise(z)


def write(folder: str = "examples", quality: int = 90) -> None:
    """Write every person's folder: photo_00.jpg .. photo_09.jpg, test_00.jpg .. test_03.jpg, about.json."""
    kit = facekit.load()
    for who in PEOPLE:
        place = Path(folder) / who.name.lower()
        place.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(who.seed)
        z = identity(who)
        names = [f"photo_{i:02d}.jpg" for i in range(REFERENCES)] + [
            f"test_{i:02d}.jpg" for i in range(TESTS)
        ]
        for name in names:
            image = photo(kit, z, who, rng)
            with replacing(place / name) as file:
                cv2.imwrite(str(file), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        about = {
            "name": who.name,
            "marks": who.about,
            "photos": REFERENCES,
            "tests": TESTS,
            "origin": "a synthetic person drawn by my3dgen on USC ICT-FaceKit (MIT); nobody real",
            "seed": who.seed,
        }
        (place / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def write_adapters(prior, folder: str = "examples", names: Sequence[str] = ()) -> dict[str, dict]:
    """Personalize `prior` to the example people with the default options: NAME/me.safetensors and what to say of it.

    NAME/me.json holds the seconds it took and the identity similarities that personalizing reports.
    names: only these people; none: all of them. Returns what the .json files hold.
    """
    done = {}
    for place in sorted(p.parent for p in Path(folder).glob("*/about.json")):
        if not names or place.name in names:
            person = read_person(place)
            adapter, seconds = fit_person(prior, person)
            adapter.save(place / layout.ADAPTER)
            likeness = to_other_photos(prior, prior.personalized(adapter), person.references, adapter.anchors)
            done[place.name] = {"seconds": seconds, "id_sim": likeness}
            (place / layout.FITTED).write_text(json.dumps(done[place.name], indent=2) + "\n")
            print(place.name, done[place.name], flush=True)
    return done
