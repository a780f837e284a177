"""What several commands share: loading, writing pictures, reporting progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from my3dgen.errors import My3DGenError
from my3dgen.progress import Progress


def load(args):
    """The prior that the arguments name, or the default one."""
    from my3dgen.priors import load_prior
    from my3dgen.priors.catalogue import own_source

    own_source()  # a mistake in MY3DGEN_WEIGHTS is said before anything takes long
    prior = load_prior(args.prior, device=args.device, progress=progress)
    say_kind(prior.kind)
    return prior


def say_kind(kind: str) -> None:
    """One line on stderr about how photos are taken, where that is not as usual."""
    if kind == "cat":
        from my3dgen.faces.cats import NOTE

        print(f"my3dgen: {NOTE}", file=sys.stderr)


def models(args):
    """The pretrained prior, the adapter and the personalized prior; None for both where no adapter was given.

    Without --prior and MY3DGEN_PRIOR, an adapter brings the prior that it was made for.
    """
    from my3dgen.personal.adapter import load_adapter
    from my3dgen.priors.catalogue import NAMES

    adapter = load_adapter(args.adapter) if args.adapter else None
    if adapter and not args.prior and not os.environ.get("MY3DGEN_PRIOR") and adapter.prior_name in NAMES:
        args.prior = adapter.prior_name
    prior = load(args)
    return prior, adapter, (prior.personalized(adapter) if adapter else None)


def at_least(value, least: int, name: str):
    """The value, which may be None.

    Raises:
        My3DGenError: where it is smaller than `least`.
    """
    if value is not None and value < least:
        raise My3DGenError(f"{name} is {value}; it must be {least} or more")
    return value


def writable(folder: str | os.PathLike) -> str:
    """A folder in which files are to be written later; it is made now.

    Raises:
        My3DGenError: where it cannot be made or written in.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise My3DGenError(
            f"the folder {folder} cannot be made ({error.strerror}); choose another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise My3DGenError(f"nothing can be written in the folder {folder}; choose another")
    return os.fspath(folder)


def write(folder: str, stem: str, images: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write pictures as PNG; returns name -> path."""
    from my3dgen.writing import write_picture

    files = {}
    for name, image in images.items():
        path = Path(folder) / (f"{stem}.png" if name == "image" else f"{stem}_{name}.png")
        files[name] = str(write_picture(image, path))
    return files


def write_frames(folder: str, stem: str, frames: Sequence[np.ndarray], fps: int = 12) -> dict[str, str]:
    """Write frames as numbered PNG files and as a video; returns name -> path, nothing where there are none."""
    if not frames:
        return {}
    from my3dgen.tasks.video import write_video

    for old in Path(folder).glob(f"{stem}_frame_[0-9][0-9][0-9].png"):  # an earlier run may have left more
        old.unlink()
    files = write(folder, stem, {f"frame_{i:03d}": frame for i, frame in enumerate(frames)})
    video = Path(folder) / f"{stem}.mp4"
    write_video(str(video), frames, fps)
    return files | {"video": str(video)}


def progress(report: Progress) -> None:
    """One line on stderr that is written over and over."""
    left = "" if report.seconds_left is None else f", {report.seconds_left:.0f} s left"
    loss = "" if report.loss is None else f", loss {report.loss:.3f}"
    end = "\n" if report.step == report.steps else ""
    print(
        f"\r{report.stage}: {report.step}/{report.steps}{loss}{left}   ", end=end, file=sys.stderr, flush=True
    )
