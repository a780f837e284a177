"""Commands that make something: crops, latents, adapters, prior files.

Each returns (exit status, JSON-ready result).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from my3dgen.cli.common import at_least, load, progress, say_kind, writable
from my3dgen.errors import My3DGenError


def prepare(args):
    """Photos -> crops with cameras, as a data-set folder."""
    from my3dgen.faces import prepare
    from my3dgen.personal.dataset import require_ours, write_faces
    from my3dgen.priors.releases import kind_of

    require_ours(writable(args.out))
    kind = args.kind or kind_of(args.prior)
    say_kind(kind)
    faces = prepare(args.photos, progress, kind=kind)
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
        reasons = "; ".join(f"{row['source']}: {row['reason']}" for row in refused)
        print(f"my3dgen: none of the {len(refused)} photos can be used ({reasons})", file=sys.stderr)
    return (0 if accepted else 2), {"accepted": rows, "refused": refused}


def project(args):
    """Crops -> latents, written beside them."""
    from my3dgen.personal.dataset import read_faces, write_anchors
    from my3dgen.personal.project import project

    steps, faces = at_least(args.steps, 0, "--steps"), read_faces(args.folder)
    writable(args.folder)
    start, prior = time.monotonic(), load(args)
    anchors = project(prior, faces, steps, progress)
    write_anchors(args.folder, anchors, prior.sha256)
    return 0, {"prior": prior.name, "latents": len(anchors.ws), "seconds": round(time.monotonic() - start, 2)}


def personalize(args):
    """Crops, and their latents where they lie there, -> adapter."""
    from dataclasses import replace

    from my3dgen.evaluation.reconstruction import to_other_photos
    from my3dgen.models.eg3d.lora import LoraOptions
    from my3dgen.personal.dataset import read_faces
    from my3dgen.personal.tune import TuneOptions, personalize

    # whatever may be wrong is said before anything takes long
    out, steps, seed = Path(args.out), at_least(args.steps, 0, "--steps"), at_least(args.seed, 0, "--seed")
    if out.is_dir() or not out.parent.is_dir():
        raise My3DGenError(
            f"--out {out} cannot be written; give a file name in a folder that exists, such as me.safetensors"
        )
    writable(out.parent)
    LoraOptions(rank=args.rank)
    TuneOptions(seed=seed)
    faces, prior = read_faces(args.folder), load(args)
    options = replace(TuneOptions.for_prior(prior), symmetry=args.symmetry, seed=seed)
    if steps is not None:
        options = replace(options, steps=steps)
    start = time.monotonic()
    anchors = _anchors(args.folder, faces, prior)
    projected = time.monotonic()
    adapter = personalize(prior, faces, anchors, args.rank, progress, options)
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


def _anchors(folder, faces, prior):
    """The latents beside the crops; of crops without one they are found first, and written there."""
    from my3dgen.personal.dataset import read_anchors, read_latents, write_anchors
    from my3dgen.personal.project import project

    of = prior.num_ws, prior.config.w_dim, prior.sha256
    missing = [i for i, w in enumerate(read_latents(folder, *of)) if w is None]
    if missing:
        writable(folder)
        found = project(prior, [faces[i] for i in missing], progress=progress)
        write_anchors(folder, found, prior.sha256, missing)
    return read_anchors(folder, *of)


def download(args):
    """A published file into the cache, after saying what its users agree to."""
    from my3dgen.priors import catalogue

    if args.name in catalogue.RELEASES:
        return 0, {
            "prior": catalogue.load_prior(args.name, "cpu", progress).name,
            "licence": catalogue.terms(args.name),
        }
    names = (args.name, *catalogue.release(args.name).needs)
    files = [str(catalogue.fetch(name, progress)) for name in names]
    said = {"file": files[0], "licence": " ".join(catalogue.terms(name) for name in names)}
    if args.name == "landmarks":
        said["use"] = "set MY3DGEN_LANDMARKS to this file; without it our own predictor is used"
    return 0, said if len(files) == 1 else said | {"files": files}


def convert(args):
    """An official pickle as our own file; a snapshot of My3DGen's as base and adapter where one is asked for."""
    from my3dgen.personal.convert import convert, take_apart

    if args.adapter is None:
        if args.prior or args.latents:
            raise My3DGenError("--prior and --latents say how to make an adapter; give --adapter FILE, too")
        convert(args.source, args.target)
        return 0, {"prior": args.target, "bytes": Path(args.target).stat().st_size}
    adapter = take_apart(args.source, args.target, args.adapter, args.prior, args.latents)
    return 0, {
        "prior": args.target,
        "bytes": Path(args.target).stat().st_size,
        "adapter": args.adapter,
        "adapter_bytes": Path(args.adapter).stat().st_size,
        "trainable_parameters": adapter.trainable_parameters,
        "rank": adapter.rank,
        "layout": adapter.layout,
        "anchors": len(adapter.anchors),
        "made_for": adapter.prior_name,
    }
