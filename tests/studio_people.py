"""An example person for tests of the page, personalized and with ready results by the stand-in models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_backend
import torch
from PIL import Image

from my3dgen import layout
from my3dgen.evaluation import ready


def write_person(place: Path, colour: tuple[int, int, int], photos: int = 10) -> tuple[dict[str, Any], Any]:
    """Write `place` as `examples/<name>` is. Returns the comparisons behind the ready results, and the adapter."""
    place.mkdir(parents=True)
    (place / "about.json").write_text(json.dumps({"name": place.name.capitalize()}))
    for kind, count in (("photo", photos), ("test", 4)):
        for i in range(count):
            picture = Image.fromarray(fake_backend.cartoon(colour, 0.08 * (i - count / 2), 0.0, 256))
            picture.save(place / f"{kind}_{i:02d}.jpg")
    ws = torch.zeros(photos, 2, 8)
    ws[..., :3] = torch.tensor(colour)
    adapter = fake_backend.Adapter(fake_backend.Anchors(ws, torch.zeros(photos, 25), ("",) * photos))
    adapter.save(place / layout.ADAPTER)
    fitted = {
        "seconds": {"project": 1.0, "personalize": 2.0},
        "id_sim": {"pretrained": 0.4, "personalized": 0.7, "photos": 0.8},
    }
    (place / layout.FITTED).write_text(json.dumps(fitted))
    models = fake_backend.Prior("heads"), fake_backend.Prior("heads", adapter)
    (photo,) = fake_backend.prepare([str(place / "test_00.jpg")])
    comparisons = {}
    for task, recipe in ready.RECIPES.items():
        needs = task in ("invert", "inpaint", "upscale", "edit")
        comparisons[task] = fake_backend.compare(task, *models, photo if needs else None, **recipe.options)
    edited = {side: fake_backend.cartoon(colour, 0.0, 0.2) for side in ready.SIDES}
    ready.write(place, comparisons, edited, "test_00.jpg")
    return comparisons, adapter
