"""Is the personalized face more the person? Measured on photos and people that no fit has seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.evaluation.metrics import identity_similarity
from my3dgen.faces import Face, prepare
from my3dgen.personal.adapter import Adapter
from my3dgen.personal.project import project
from my3dgen.personal.tune import TuneOptions, full_fine_tuning, personalize
from my3dgen.tasks.invert import invert

DISTANCES = ("perceptual", "dists")  # figures of a reconstruction beside its photo, lower is better


@dataclass(frozen=True)
class Person:
    """A person's photos: to personalize with, and held out."""

    name: str
    references: list[Face]
    tests: list[Face]


def read_person(folder: str | Path) -> Person:
    """A folder of photo_*.jpg and test_*.jpg, as in `examples/`."""
    folder = Path(folder).resolve()  # its name is the person's, also of "."
    photos, tests = sorted(folder.glob("photo_*.jpg")), sorted(folder.glob("test_*.jpg"))
    if not photos or not tests:
        raise My3DGenError(f"{folder} needs photo_*.jpg and test_*.jpg; got {len(photos)} and {len(tests)}")
    keep = [[f for f in prepare([str(p) for p in part]) if not f.refused] for part in (photos, tests)]
    if not all(keep):
        raise My3DGenError(f"{folder} has no usable photo_*.jpg or no usable test_*.jpg; `prepare` says why")
    return Person(folder.name, *keep)


def fit_person(
    prior, person: Person, options: TuneOptions | None = None, rank: int = 1
) -> tuple[Adapter, dict[str, float]]:
    """Project and personalize on the references. Returns the adapter and the seconds of both."""
    start = time.monotonic()
    anchors = project(prior, person.references)
    projected = time.monotonic()
    adapter = personalize(prior, person.references, anchors, rank, options=options)
    seconds = {
        "project": round(projected - start, 1),
        "personalize": round(time.monotonic() - projected, 1),
    }
    return adapter, seconds


def held_out(
    prior, person: Person, adapter: Adapter, options: TuneOptions | None = None, full: bool = True
) -> tuple[dict, dict]:
    """Invert the held-out photos by projection only, on the pretrained prior and on the person's.

    Args:
        full: also fine-tune every weight on the references and do the same with that.

    Returns:
        A row {"pretrained", "personalized", "full"} of {"id_sim", "perceptual"} and, where that network is here,
        "dists" (means over the tests), with "photos" (ID_sim of the real tests against the references) and the adapter's bytes;
        and the pictures {who: [uint8 [H, W, 3], ...]} with the photos under "photo".
    """
    models = {"pretrained": prior, "personalized": prior.personalized(adapter)}
    if full:
        models["full"] = full_fine_tuning(prior, person.references, adapter.anchors, options=options)
    row: dict = {"person": person.name, "photos": round(ceiling(person), 4)}
    pictures = {"photo": [f.image for f in person.tests]}
    for who, model in models.items():
        results = [invert(model, face, references=person.references) for face in person.tests]
        row[who] = {
            k: round(float(np.mean([r.figures[k] for r in results])), 4)
            for k in ("id_sim", *DISTANCES)
            if k in results[0].figures
        }
        pictures[who] = [r.images["image"] for r in results]
    row["adapter_bytes"] = adapter.bytes
    return row, pictures


def ceiling(person: Person) -> float:
    """ID_sim of the real held-out photos to the references: what a perfect model would reach."""
    return identity_similarity(person.tests, person.references)


def table(rows: Sequence[dict]) -> str:
    """The rows as a Markdown table with means."""
    whos = [w for w in ("pretrained", "personalized", "full") if w in rows[0]]
    distances = [k for k in DISTANCES if k in rows[0]["pretrained"]]
    head = ["person", *(f"{w} ID" for w in whos), "photos ID", *(f"{w} {k}" for k in distances for w in whos)]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    values = [
        [r[w]["id_sim"] for w in whos] + [r["photos"]] + [r[w][k] for k in distances for w in whos]
        for r in rows
    ]
    for name, row in zip([r["person"] for r in rows] + ["mean"], [*values, np.mean(values, 0)], strict=True):
        lines.append("| " + " | ".join([name, *(f"{v:.3f}" for v in row)]) + " |")
    return "\n".join(lines)
