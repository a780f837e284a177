"""The command line: `python -m my3dgen COMMAND ...`.

Progress goes to stderr; with --json stdout is one JSON object. Exit status 0: done; 2: a user's mistake, in one line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from my3dgen.cli import making, measuring, tasks
from my3dgen.errors import My3DGenError

# how full memory is told, by name and words: torch is not imported for its own
FULL = ("MemoryError", "OutOfMemoryError", "can't allocate memory")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        status, result = args.run(args)
        if args.json:
            print(json.dumps(result))
        else:
            _say(result)
        sys.stdout.flush()
    except My3DGenError as error:
        print(f"my3dgen: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # whoever read the output has seen enough; nothing may be written when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("my3dgen: stopped; files that were finished before are kept", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"my3dgen: {error.strerror or error}: {error.filename or ''}; check the path and the disk",
            file=sys.stderr,
        )
        return 2
    except (MemoryError, RuntimeError) as error:
        if not any(word in f"{type(error).__name__} {error}" for word in FULL):
            raise
        print(
            "my3dgen: the memory is full; close other programs, use --device cpu, or a smaller prior (--prior heads)",
            file=sys.stderr,
        )
        return 2
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists what there is\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("my3dgen", description="A 3D model of your own face from a handful of selfies.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(run=run)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    def with_prior(sub):
        sub.add_argument(
            "--prior",
            help="heads, ffhq, cats or a file (default: MY3DGEN_PRIOR, else the adapter's, else what suits this machine)",
        )
        sub.add_argument("--device", help="cpu, cuda, cuda:1, ...")

    def with_task(sub):
        with_prior(sub)
        sub.add_argument(
            "--adapter", help="the person's .safetensors; without it only the pretrained prior runs"
        )
        sub.add_argument("--out", required=True, help="folder for the pictures")

    def with_figures(sub):
        with_task(sub)
        sub.add_argument(
            "--references",
            nargs="+",
            metavar="PHOTO",
            help="other photos of the person, for the identity score (default: what the task has, as its JSON says)",
        )

    sub = command("prepare", making.prepare, "photos -> crops with cameras")
    sub.add_argument("photos", nargs="+", metavar="PHOTO")
    sub.add_argument("--out", required=True, help="folder for the crops")
    sub.add_argument("--prior", help="the prior they are for: cats gets cats' crops (default: MY3DGEN_PRIOR)")
    sub.add_argument(
        "--kind", choices=("person", "cat"), help="what the photos show (default: as the prior knows)"
    )

    sub = command("project", making.project, "crops -> latents, written beside them")
    sub.add_argument("folder", metavar="DIR")
    sub.add_argument("--steps", type=int)
    with_prior(sub)

    sub = command("personalize", making.personalize, "crops (and latents) -> adapter")
    sub.add_argument("folder", metavar="DIR")
    sub.add_argument("--out", required=True, help="adapter to write (.safetensors)")
    sub.add_argument("--rank", type=int, default=1)
    sub.add_argument("--steps", type=int)
    sub.add_argument("--symmetry", action="store_true", help="ask mirrored views to be the same person")
    sub.add_argument("--seed", type=int, default=0)
    with_prior(sub)

    sub = command("render", tasks.render, "an anchor (or the mean face) from a camera")
    sub.add_argument("--yaw", type=float, default=0.0, help="radians, to the person's left")
    sub.add_argument("--pitch", type=float, default=0.0, help="radians, up")
    sub.add_argument("--anchor", type=int, help="which of the adapter's anchors (default: 0)")
    with_task(sub)

    sub = command("invert", tasks.invert, "reconstruct a photo")
    sub.add_argument("photo", metavar="PHOTO")
    sub.add_argument("--steps", type=int, help="projection steps")
    sub.add_argument("--tuning-steps", type=int, default=0, help="pivotal tuning steps; 0: projection only")
    with_figures(sub)

    sub = command("inpaint", tasks.inpaint, "paint a part of a photo anew")
    sub.add_argument("photo", metavar="PHOTO")
    sub.add_argument(
        "--mask", help="picture, white where to paint; of the photo's size or of the crop's (512)"
    )
    sub.add_argument(
        "--region", default="centre", help="without a mask: centre, eyes, nose, mouth or 'lower face'"
    )
    sub.add_argument("--steps", type=int, help="steps of the fit")
    with_figures(sub)

    sub = command("upscale", tasks.upscale, "enlarge a small photo")
    sub.add_argument("photo", metavar="PHOTO")
    sub.add_argument(
        "--size",
        type=int,
        help="reduce the crop to this side first (default: a photo that is not small, to 32)",
    )
    sub.add_argument("--steps", type=int, help="steps of the fit")
    with_figures(sub)

    sub = command("interpolate", tasks.interpolate, "walk from one anchor or photo to another")
    sub.add_argument(
        "start",
        nargs="?",
        metavar="START",
        help="anchor number or photo (default: the anchors farthest apart)",
    )
    sub.add_argument("end", nargs="?", metavar="END", help="anchor number or photo")
    sub.add_argument("--steps", type=int, default=10, help="pictures along the way")
    with_figures(sub)

    sub = command("synthesize", tasks.synthesize, "new pictures of the person")
    sub.add_argument("--count", type=int, default=6)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--rule", default="dirichlet", choices=("dirichlet", "three"), help="how the hull is sampled"
    )
    sub.add_argument("--strength", type=float, default=1.0, help="0: the person's mean .. 1: as sampled")
    with_figures(sub)

    sub = command("edit", tasks.edit, "more or less of a smile, of age, ...")
    sub.add_argument("photo", metavar="PHOTO", help="a photo, or the number of an anchor")
    sub.add_argument("--attribute", default="smile", help="smile, age, beard or hair_dark")
    sub.add_argument("--strength", type=float, default=1.0, help="-4 to 4; the page's slider ends at 2")
    sub.add_argument(
        "--policy",
        default="project",
        choices=("project", "stop", "continue"),
        help="how much of the change is made of the person's own moments: up to the hull's nearest point, to its edge, or across it",
    )
    sub.add_argument("--steps", type=int, help="steps of the fit")
    with_figures(sub)

    sub = command("export", tasks.export, "mesh, turntable and picture")
    sub.add_argument(
        "--format", nargs="+", default=["glb", "ply", "mp4", "png"], choices=("glb", "ply", "mp4", "png")
    )
    sub.add_argument("--anchor", type=int, help="which of the adapter's anchors (default: 0)")
    sub.add_argument(
        "--resolution", type=int, default=128, help="samples of the mesh along each side, 16 to 512"
    )
    sub.add_argument("--frames", type=int, default=60, help="of the turntable")
    sub.add_argument("--yaw", type=float, default=0.0, help="of the picture, radians")
    sub.add_argument("--pitch", type=float, default=0.0, help="of the picture, radians")
    with_task(sub)

    sub = command("download", making.download, "other people's weights, for later use without a network")
    sub.add_argument(
        "name", metavar="NAME", help="ffhq, cats, or a helper network: arcface, landmarks, dists"
    )

    sub = command("convert", making.convert, "an official .pkl -> our .safetensors")
    sub.add_argument("source", metavar="IN.pkl")
    sub.add_argument("target", metavar="OUT.safetensors")
    sub.add_argument(
        "--adapter", metavar="FILE", help="IN is a snapshot of My3DGen's: OUT gets its base, FILE the person"
    )
    sub.add_argument("--prior", help="make the adapter for this prior, which the snapshot was trained on")
    sub.add_argument("--latents", metavar="DIR", help="training folder whose latents become the anchors")

    sub = command("evaluate", measuring.evaluate, "identity and likeness on held-out photos")
    sub.add_argument(
        "folders",
        nargs="*",
        metavar="DIR",
        help="people with photo_*.jpg and test_*.jpg (default: examples/*)",
    )
    sub.add_argument("--rank", type=int, help="of the adapters (default: 1)")
    sub.add_argument("--no-full", action="store_true", help="leave out full fine-tuning")
    sub.add_argument("--ready", action="store_true", help="use DIR/me.safetensors instead of personalizing")
    sub.add_argument("--tasks", action="store_true", help="also measure every other task (minutes a person)")
    sub.add_argument("--out", help="folder for contact sheets, adapters and the tables")
    with_prior(sub)

    sub = command("bench", measuring.bench, "milliseconds of each part of the generator")
    sub.add_argument("--random-weights", action="store_true", help="sizes of the named prior, random weights")
    sub.add_argument("--repeat", type=int, help="times, of which the median counts (default: 5)")
    sub.add_argument(
        "--personalize", action="store_true", help="instead: seconds and memory of projecting and tuning"
    )
    sub.add_argument("--photos", type=int, help="so many photos to personalize (default: 10)")
    sub.add_argument(
        "--steps",
        type=int,
        help="of either stage (default: all on a GPU, one on a CPU); fewer are extrapolated",
    )
    with_prior(sub)
    return parser


def _say(result: dict) -> None:
    """The result for a person: one line a value."""
    for key, value in result.items():
        if key in ("table", "task_table"):
            print(value)
        elif key not in ("rows", "task_rows"):
            print(f"{key}: {value if isinstance(value, (str, int, float)) else json.dumps(value)}")
