"""Is the personalized face more the person in every task? Identity of each task's results to the person's photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from my3dgen.evaluation.protocol import Person
from my3dgen.tasks.compare import compare

SIZE = 32  # pixels that super-resolution starts from
FULL = 2.0  # strength of an edit at the slider's end
LOOKS = 12  # new looks a person
ROWS = ("inpaint", "upscale", "interpolate", "synthesize", "edit smile", "edit age")


def every_task(prior, me, person: Person, photos: int = 2, progress=None) -> dict[str, dict]:
    """Run every task on a person's held-out photos.

    Args:
        photos: how many of the held-out photos; each of them is inpainted (centre), enlarged from 32 px and
            edited at +2.

    Returns:
        A row {"pretrained", "personalized"} of mean ID_sim to the reference photos for each of `ROWS`; the rows
        of edits also hold "monotone", the smallest Spearman correlation of slider and scorer among the runs.
    """
    tests, references = person.tests[:photos], person.references

    def run(task: str, photo=None, **options):
        return compare(task, prior, me, photo, progress=progress, references=references, **options)

    rows = {
        "inpaint": _row([run("inpaint", face, region="centre") for face in tests]),
        "upscale": _row([run("upscale", face, size=SIZE) for face in tests]),
        "interpolate": _row([run("interpolate")]),
        "synthesize": _row([run("synthesize", count=LOOKS)]),
    }
    for attribute in ("smile", "age"):
        done = [run("edit", face, attribute=attribute, strength=FULL) for face in tests]
        rows[f"edit {attribute}"] = _row(done) | {"monotone": _monotone(done)}
    return rows


def _row(done: Sequence) -> dict[str, float]:
    return {
        who: round(float(np.mean([getattr(c, who).figures["id_sim"] for c in done])), 4)
        for who in ("pretrained", "personalized")
    }


def _monotone(done: Sequence) -> float:
    """The smallest rank correlation of strengths and scores among all sliders."""
    sides = [getattr(c, who) for c in done for who in ("pretrained", "personalized")]
    return round(min(float(spearmanr(s.extra["strengths"], s.extra["scores"])[0]) for s in sides), 4)


def tasks_table(rows: dict[str, dict[str, dict]]) -> str:
    """{person: `every_task`'s rows} as a Markdown table of pretrained -> personalized, with means."""
    names = list(rows)
    lines = ["| task | " + " | ".join([*names, "mean", "gain"]) + " |", "|" + " --- |" * (len(names) + 3)]
    for task in ROWS:
        pairs = np.array([[rows[n][task][w] for w in ("pretrained", "personalized")] for n in names])
        cells = [f"{a:.3f} → {b:.3f}" for a, b in [*pairs, pairs.mean(0)]]
        lines.append(f"| {task} | " + " | ".join(cells) + f" | {np.diff(pairs.mean(0))[0]:+.3f} |")
    return "\n".join(lines)
