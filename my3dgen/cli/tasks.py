"""The tasks as commands: pretrained and, with an adapter, personalized. Each returns (exit status, JSON-ready result)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from my3dgen.cli.common import at_least, models, progress, writable, write, write_frames
from my3dgen.errors import My3DGenError

UNMEASURED = {"id_sim": None, "perceptual": None}  # where a task has no photo to compare with


def render(args):
    """An anchor, or the mean face, from one camera."""
    from my3dgen.evaluation.metrics import networks
    from my3dgen.tasks import render_view

    start = time.monotonic()
    writable(args.out)
    prior, adapter, me = models(args)
    ws = _anchor(prior, adapter, args.anchor)
    result = {"input": None, "networks": networks()}
    for who, model in (("pretrained", prior), ("personalized", me)):
        result[who] = None
        if model is not None:
            files = write(args.out, who, {"image": render_view(model, ws, args.yaw, args.pitch)})
            result[who] = {"files": files} | UNMEASURED
    return 0, {"seconds": round(time.monotonic() - start, 2)} | result


def invert(args):
    """A photo, rebuilt."""
    tuning = at_least(args.tuning_steps, 0, "--tuning-steps")
    return _compare(args, "invert", args.photo, steps=_steps(args), tuning_steps=tuning)


def inpaint(args):
    """A photo with a part painted anew."""
    return _compare(args, "inpaint", args.photo, mask=args.mask, region=args.region, steps=_steps(args))


def upscale(args):
    """A small photo, enlarged."""
    from my3dgen.tasks.upscale import SMALLEST

    size = at_least(args.size, SMALLEST, "--size")
    return _compare(args, "upscale", args.photo, size=size, steps=_steps(args))


def interpolate(args):
    """The way from one anchor or photo to another; without an adapter and photos, from one random face to another."""
    start, end = (int(x) if x is not None and x.isdecimal() else x for x in (args.start, args.end))
    if isinstance(start, int) or isinstance(end, int):
        _require_adapter(args, "interpolate between a person's anchors")
    return _compare(args, "interpolate", start=start, end=end, steps=at_least(args.steps, 2, "--steps"))


def synthesize(args):
    """New pictures of the person; without an adapter, of nobody."""
    count, seed = at_least(args.count, 1, "--count"), at_least(args.seed, 0, "--seed")
    return _compare(args, "synthesize", count=count, seed=seed, rule=args.rule, strength=args.strength)


def edit(args):
    """A photo, or an anchor by its number, with more or less of an attribute."""
    what = int(args.photo) if args.photo.isdecimal() else args.photo
    if isinstance(what, int):
        _require_adapter(args, "edit an anchor")
    options = {"attribute": args.attribute, "strength": args.strength, "policy": args.policy}
    return _compare(args, "edit", what, steps=_steps(args), **options)


def export(args):
    """Meshes, a turntable and a picture to take away."""
    from my3dgen.evaluation.metrics import networks
    from my3dgen.tasks import export as write_files

    start = time.monotonic()
    options = {
        "resolution": at_least(args.resolution, 16, "--resolution"),
        "frames": at_least(args.frames, 2, "--frames"),
        "yaw": args.yaw,
        "pitch": args.pitch,
    }
    writable(args.out)
    prior, adapter, me = models(args)
    ws = _anchor(prior, adapter, args.anchor)
    result = {"input": None, "networks": networks()}
    for who, model in (("pretrained", prior), ("personalized", me)):
        result[who] = None
        if model is not None:
            out = writable(Path(args.out) / who)
            files = write_files(model, ws, formats=tuple(args.format), out=out, progress=progress, **options)
            named = {name: str(path) for name, path in files.items()}
            if "png" in named:  # what every task calls its picture
                named["image"] = named["png"]
            result[who] = {"files": named} | UNMEASURED
    return 0, {"seconds": round(time.monotonic() - start, 2)} | result


def _steps(args):
    return at_least(args.steps, 0, "--steps")


def _require_adapter(args, what: str) -> None:
    """Raises `My3DGenError` where nobody's anchors are at hand."""
    if not args.adapter:
        raise My3DGenError(f"to {what}, give the person's --adapter me.safetensors; it holds their anchors")


def _require_files(*pictures) -> None:
    """Raises `My3DGenError` for a path that leads nowhere, before a prior is loaded, which takes a moment and a line."""
    for path in pictures:
        if isinstance(path, str) and not Path(path).is_file():
            raise My3DGenError(f"{path} is not a file; give a picture's path.")


def _anchor(prior, adapter, index: int | None):
    """An anchor's latent [L, w_dim]; the mean face where there is no adapter."""
    if adapter is None:
        if index is not None:
            raise My3DGenError("--anchor counts the anchors of an --adapter; give one, or leave --anchor out")
        return prior.w_avg.expand(prior.num_ws, -1)
    index = index or 0
    if 0 <= index < len(adapter.anchors.ws):
        return adapter.anchors.ws[index]
    raise My3DGenError(f"--anchor {index}: the adapter has anchors 0 to {len(adapter.anchors.ws) - 1}")


def _compare(args, task: str, photo=None, **options):
    """Run a task on both models, write its pictures and say what was measured."""
    from my3dgen.faces import prepare
    from my3dgen.personal.objective import usable
    from my3dgen.tasks import compare

    start = time.monotonic()
    writable(args.out)
    _require_files(photo, *(options.get(name) for name in ("mask", "start", "end")))
    prior, _, me = models(args)
    if args.references:
        faces = prepare(args.references, progress, kind=prior.kind)
        options["references"] = usable(faces)
        for face in faces:
            if face.refused:
                line = f"my3dgen: {face.source} is left out of the references: {face.refused}"
                print(line, file=sys.stderr)
    done = compare(task, prior, me, photo, progress=progress, **options)
    shown = None if done.input is None else write(args.out, "input", {"image": done.input})["image"]
    result = {"input": shown, "networks": done.pretrained.networks}
    for who in ("pretrained", "personalized"):
        side, result[who] = getattr(done, who), None
        if side is not None:
            files = write(args.out, who, side.images) | write_frames(args.out, who, side.frames)
            result[who] = {"files": files} | UNMEASURED | side.figures | side.extra
    return 0, {"seconds": round(time.monotonic() - start, 2)} | result
