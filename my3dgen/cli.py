"""The command line: `python -m my3dgen COMMAND ...`.

Progress goes to stderr; with --json stdout is one JSON object. Exit status 0: done; 2: a user's mistake, in one line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        status, result = args.run(args)
    except My3DGenError as error:
        print(f"my3dgen: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("my3dgen: stopped; nothing was changed", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"my3dgen: {error.strerror or error}: {error.filename or ''}; check the path and the disk",
            file=sys.stderr,
        )
        return 2
    if args.json:
        print(json.dumps(result))
    else:
        _say(result)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "my3dgen", description="A 3D model of your own face from a handful of selfies."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    def with_prior(sub):
        sub.add_argument(
            "--prior",
            help="heads, ffhq, cats or a file (default: MY3DGEN_PRIOR, else what suits this machine)",
        )
        sub.add_argument("--device", help="cpu, cuda, cuda:1, ...")

    def with_task(sub):
        with_prior(sub)
        sub.add_argument(
            "--adapter", help="the person's .safetensors; without it only the pretrained prior runs"
        )
        sub.add_argument("--out", required=True, help="folder for the pictures")

    sub = command("prepare", _prepare, "photos -> crops with cameras")
    sub.add_argument("photos", nargs="+", metavar="PHOTO")
    sub.add_argument("--out", required=True, help="folder for the crops")

    sub = command("project", _project, "crops -> latents, written beside them")
    sub.add_argument("folder", metavar="DIR")
    sub.add_argument("--steps", type=int)
    with_prior(sub)

    sub = command("personalize", _personalize, "crops (and latents) -> adapter")
    sub.add_argument("folder", metavar="DIR")
    sub.add_argument("--out", required=True, help="adapter to write (.safetensors)")
    sub.add_argument("--rank", type=int, default=1)
    sub.add_argument("--steps", type=int)
    sub.add_argument("--symmetry", action="store_true", help="ask mirrored views to be the same person")
    sub.add_argument("--seed", type=int, default=0)
    with_prior(sub)

    sub = command("render", _render, "an anchor (or the mean face) from a camera")
    sub.add_argument("--yaw", type=float, default=0.0, help="radians, to the person's left")
    sub.add_argument("--pitch", type=float, default=0.0, help="radians, up")
    sub.add_argument("--anchor", type=int, default=0, help="which of the adapter's anchors")
    with_task(sub)

    sub = command("invert", _invert, "reconstruct a photo")
    sub.add_argument("photo", metavar="PHOTO")
    sub.add_argument("--steps", type=int, help="projection steps")
    sub.add_argument("--tuning-steps", type=int, default=0, help="pivotal tuning steps; 0: projection only")
    with_task(sub)

    sub = command("convert", _convert, "an official .pkl -> our .safetensors")
    sub.add_argument("source", metavar="IN.pkl")
    sub.add_argument("target", metavar="OUT.safetensors")

    sub = command("evaluate", _evaluate, "identity and likeness on held-out photos")
    sub.add_argument(
        "folders",
        nargs="*",
        metavar="DIR",
        help="people with photo_*.jpg and test_*.jpg (default: examples/*)",
    )
    sub.add_argument("--rank", type=int, default=1)
    sub.add_argument("--no-full", action="store_true", help="leave out full fine-tuning")
    sub.add_argument("--out", help="folder for contact sheets and the table")
    with_prior(sub)

    sub = command("bench", _bench, "milliseconds of each part of the generator")
    sub.add_argument("--random-weights", action="store_true", help="sizes of the named prior, random weights")
    sub.add_argument("--repeat", type=int, default=5)
    with_prior(sub)
    return parser


# -- commands: each returns (exit status, JSON-ready result)


def _prepare(args):
    from my3dgen.faces import prepare
    from my3dgen.personal.dataset import write_faces

    faces = prepare(args.photos, _progress)
    accepted = [f for f in faces if not f.refused]
    names = write_faces(args.out, accepted) if accepted else []
    rows = [
        {
            "source": f.source,
            "image": str(Path(args.out) / n),
            "camera": [float(x) for x in f.camera],
            "warnings": list(f.warnings),
        }
        for f, n in zip(accepted, names, strict=True)
    ]
    refused = [{"source": f.source, "reason": f.refused} for f in faces if f.refused]
    if not accepted:
        for row in refused:
            print(f"my3dgen: {row['source']}: {row['reason']}", file=sys.stderr)
    return (0 if accepted else 2), {"accepted": rows, "refused": refused}


def _prior(args):
    from my3dgen.priors import load_prior

    return load_prior(args.prior, device=args.device)


def _project(args):
    from my3dgen.personal.dataset import read_faces, write_anchors
    from my3dgen.personal.project import project

    start, prior = time.monotonic(), _prior(args)
    anchors = project(prior, read_faces(args.folder), _at_least(args.steps, 0, "--steps"), _progress)
    write_anchors(args.folder, anchors)
    return 0, {"prior": prior.name, "latents": len(anchors.ws), "seconds": round(time.monotonic() - start, 2)}


def _personalize(args):
    from dataclasses import replace

    from my3dgen.evaluation.reconstruction import to_other_photos
    from my3dgen.personal.dataset import read_anchors, read_faces, write_anchors
    from my3dgen.personal.project import project
    from my3dgen.personal.tune import TuneOptions, personalize

    prior, faces = _prior(args), read_faces(args.folder)
    out = Path(args.out)
    if out.is_dir() or not out.parent.is_dir():
        raise My3DGenError(
            f"--out {out} cannot be written; give a file name in a folder that exists, such as me.safetensors"
        )
    start = time.monotonic()
    anchors = read_anchors(args.folder, prior.num_ws, prior.config.w_dim)
    if anchors is None:
        anchors = project(prior, faces, progress=_progress)
        write_anchors(args.folder, anchors)
    projected = time.monotonic()
    options = replace(TuneOptions.for_prior(prior), symmetry=args.symmetry, seed=args.seed)
    if args.steps is not None:
        options = replace(options, steps=_at_least(args.steps, 0, "--steps"))
    adapter = personalize(prior, faces, anchors, args.rank, _progress, options)
    tuned = time.monotonic()
    adapter.save(out)
    return 0, {
        "adapter": str(out),
        "bytes": out.stat().st_size,
        "trainable_parameters": adapter.trainable_parameters,
        "rank": args.rank,
        "prior": prior.name,
        "seconds": {"project": round(projected - start, 2), "personalize": round(tuned - projected, 2)},
        "id_sim": to_other_photos(prior, prior.personalized(adapter), faces, anchors),
    }


def _models(args):
    """The pretrained prior, and the personalized one where an adapter was given."""
    from my3dgen.personal.adapter import load_adapter

    prior = _prior(args)
    adapter = load_adapter(args.adapter) if args.adapter else None
    return prior, adapter, (prior.personalized(adapter) if adapter else None)


def _render(args):
    from my3dgen.evaluation.metrics import networks
    from my3dgen.tasks import render_view

    start = time.monotonic()
    prior, adapter, me = _models(args)
    if adapter is None:
        ws = prior.w_avg.expand(prior.num_ws, -1)
    elif 0 <= args.anchor < len(adapter.anchors.ws):
        ws = adapter.anchors.ws[args.anchor]
    else:
        raise My3DGenError(
            f"--anchor {args.anchor}: the adapter has anchors 0 to {len(adapter.anchors.ws) - 1}"
        )
    result = {"input": None, "networks": networks()}
    for who, model in (("pretrained", prior), ("personalized", me)):
        if model is not None:
            files = _write(args.out, who, {"image": render_view(model, ws, args.yaw, args.pitch)})
            result[who] = {"files": files}
    return 0, {"seconds": round(time.monotonic() - start, 2)} | result


def _invert(args):
    from my3dgen.evaluation.metrics import networks
    from my3dgen.tasks import compare

    start = time.monotonic()
    prior, _, me = _models(args)
    steps, tuning = _at_least(args.steps, 0, "--steps"), _at_least(args.tuning_steps, 0, "--tuning-steps")
    done = compare("invert", prior, me, args.photo, progress=_progress, steps=steps, tuning_steps=tuning)
    result = {"input": _write(args.out, "input", {"image": done.input})["image"], "networks": networks()}
    for who in ("pretrained", "personalized"):
        task = getattr(done, who)
        if task is not None:
            result[who] = {"files": _write(args.out, who, task.images)} | task.figures
    return 0, {"seconds": round(time.monotonic() - start, 2)} | result


def _convert(args):
    from my3dgen.priors import load_prior
    from my3dgen.priors.files import save_prior

    prior = load_prior(args.source)
    save_prior(args.target, prior.generator, prior.name)
    return 0, {"prior": args.target, "bytes": Path(args.target).stat().st_size}


def _evaluate(args):
    from dataclasses import replace

    from my3dgen.evaluation.metrics import networks
    from my3dgen.evaluation.protocol import held_out, read_person, table
    from my3dgen.evaluation.sheets import comparison_sheet
    from my3dgen.personal.tune import TuneOptions

    prior = _prior(args)
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
            _write(args.out, row["person"], {"sheet": comparison_sheet(pictures)})
            for who, images in pictures.items():
                overview.setdefault(who, []).append(images[0])
    if args.out:
        overview.pop("full", None)
        _write(args.out, "overview", {"image": comparison_sheet(overview)})
    return 0, {"prior": prior.name, "networks": networks(), "rows": rows, "table": table(rows)}


def _bench(args):
    from my3dgen.evaluation.bench import bench

    return 0, bench(args.prior, args.device, args.random_weights, max(args.repeat, 1))


# -- small things


def _at_least(value, least: int, name: str):
    if value is not None and value < least:
        raise My3DGenError(f"{name} is {value}; it must be {least} or more")
    return value


def _write(folder: str, stem: str, images: dict) -> dict[str, str]:
    """Write pictures as PNG; returns name -> path."""
    from PIL import Image

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, image in images.items():
        path = place / (f"{stem}.png" if name == "image" else f"{stem}_{name}.png")
        Image.fromarray(image).save(path)
        files[name] = str(path)
    return files


def _progress(report: Progress) -> None:
    left = "" if report.seconds_left is None else f", {report.seconds_left:.0f} s left"
    loss = "" if report.loss is None else f", loss {report.loss:.3f}"
    end = "\n" if report.step == report.steps else ""
    print(
        f"\r{report.stage}: {report.step}/{report.steps}{loss}{left}   ", end=end, file=sys.stderr, flush=True
    )


def _say(result: dict) -> None:
    """The result for a person: one line a value."""
    for key, value in result.items():
        if key == "table":
            print(value)
        elif key != "rows":
            print(f"{key}: {value if isinstance(value, (str, int, float)) else json.dumps(value)}")
