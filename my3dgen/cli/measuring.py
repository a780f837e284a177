"""Commands that measure. Each returns (exit status, JSON-ready result)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from my3dgen.cli.common import load, write
from my3dgen.errors import My3DGenError


def evaluate(args):
    """Identity and likeness on held-out photos, pretrained against personalized."""
    from dataclasses import replace

    from my3dgen.evaluation.metrics import networks
    from my3dgen.evaluation.protocol import held_out, read_person, table
    from my3dgen.evaluation.sheets import comparison_sheet
    from my3dgen.personal.tune import TuneOptions

    prior = load(args)
    folders = args.folders or sorted(str(p.parent) for p in Path("examples").glob("*/about.json"))
    if not folders:
        raise My3DGenError("there is no examples/ folder here; name folders with photo_*.jpg and test_*.jpg")
    rows, overview = [], {}
    for folder in folders:
        row, pictures = held_out(
            prior,
            read_person(folder),
            replace(TuneOptions.for_prior(prior)),
            args.rank,
            full=not args.no_full,
        )
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
        if args.out:
            write(args.out, row["person"], {"sheet": comparison_sheet(pictures)})
            for who, images in pictures.items():
                overview.setdefault(who, []).append(images[0])
    if args.out:
        overview.pop("full", None)
        write(args.out, "overview", {"image": comparison_sheet(overview)})
    return 0, {"prior": prior.name, "networks": networks(), "rows": rows, "table": table(rows)}


def bench(args):
    """Milliseconds of each part of the generator."""
    from my3dgen.evaluation.bench import bench

    return 0, bench(args.prior, args.device, args.random_weights, max(args.repeat, 1))
