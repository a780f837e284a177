"""Commands that measure. Each returns (exit status, JSON-ready result)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from my3dgen import layout
from my3dgen.cli.common import at_least, load, progress, writable, write
from my3dgen.errors import My3DGenError


def evaluate(args):
    """Identity and likeness on held-out photos, pretrained against personalized."""
    from my3dgen.evaluation.protocol import fit_person, held_out, read_person, table
    from my3dgen.evaluation.sheets import comparison_sheet
    from my3dgen.evaluation.tasks import every_task, tasks_table
    from my3dgen.models.eg3d.lora import LoraOptions
    from my3dgen.personal.adapter import load_adapter
    from my3dgen.tasks.result import networks

    folders = args.folders or sorted(str(p.parent) for p in Path("examples").glob("*/about.json"))
    if not folders:
        raise My3DGenError("there is no examples/ folder here; name folders with photo_*.jpg and test_*.jpg")
    # whatever may be wrong is said before anything takes long
    if args.out:
        writable(args.out)
    if args.ready and args.rank is not None:
        raise My3DGenError("--ready takes the adapters' own rank; leave --rank out, or --ready.")
    rank = 1 if args.rank is None else args.rank
    LoraOptions(rank=rank)
    names = [Path(folder).resolve().name for folder in folders]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise My3DGenError(f"two folders are called {twice[0]}; rename one, as results are called after them")
    prior = load(args)
    if prior.kind != "person":
        raise My3DGenError(
            f"faces are compared by networks that know people; the prior {prior.name!r} knows none"
        )
    people = [read_person(folder) for folder in folders]
    ready = [load_adapter(Path(folder) / layout.ADAPTER) for folder in folders] if args.ready else []
    for each in ready:
        prior.personalized(each)  # does it fit this prior?
    rows, task_rows, overview = [], {}, {}
    for i, person in enumerate(people):
        adapter, seconds = (ready[i], None) if args.ready else fit_person(prior, person, rank=rank)
        row, pictures = held_out(prior, person, adapter, full=not args.no_full)
        rows.append(row | {"seconds": seconds})
        if args.tasks:
            task_rows[person.name] = every_task(prior, prior.personalized(adapter), person)
        print(json.dumps(rows[-1] | {"tasks": task_rows.get(person.name)}), file=sys.stderr, flush=True)
        if args.out:
            write(args.out, person.name, {"sheet": comparison_sheet(pictures)})
            adapter.save(Path(args.out) / f"{person.name}.safetensors")
            for who, images in pictures.items():
                overview.setdefault(who, []).append(images[0])
    if args.out:
        overview.pop("full", None)
        write(args.out, "overview", {"image": comparison_sheet(overview)})
    result = {"prior": prior.name, "networks": networks(rows[0]["pretrained"])}
    result |= {"rows": rows, "table": table(rows)}
    if args.tasks:
        result |= {"task_rows": task_rows, "task_table": tasks_table(task_rows)}
    if args.out:
        tables = "\n\n".join(result[name] for name in ("table", "task_table") if name in result)
        (Path(args.out) / "tables.md").write_text(tables + "\n")
    return 0, result


def bench(args):
    """Milliseconds of each part of the generator; with --personalize seconds and memory of a whole person."""
    from my3dgen.evaluation.bench import bench

    if args.personalize:
        if args.repeat is not None:
            raise My3DGenError("--repeat is for the parts of the generator; leave it or --personalize out.")
        from my3dgen.personal.timing import time_person

        prior = _random_prior(args) if args.random_weights else load(args)
        photos = 10 if args.photos is None else args.photos
        return 0, time_person(prior, photos, at_least(args.steps, 1, "--steps"), progress)
    if args.photos is not None or args.steps is not None:
        raise My3DGenError("--photos and --steps are for --personalize: give that too, or leave them out.")
    return 0, bench(
        args.prior, args.device, args.random_weights, max(5 if args.repeat is None else args.repeat, 1)
    )


def _random_prior(args):
    """A prior of a published one's sizes with random weights."""
    from my3dgen.evaluation.bench import random_generator
    from my3dgen.priors import Prior
    from my3dgen.priors.catalogue import device_of

    name, device = args.prior or "heads", device_of(args.device)
    generator = random_generator(name)
    for key, weight in generator.named_parameters():
        if key.endswith("noise_strength"):  # as trained ones have: projection then fits the noise maps, too
            weight.data.fill_(0.1)
    return Prior(f"{name} (random weights)", "0" * 64, generator.to(device))
