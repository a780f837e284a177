"""`python -m my3dgen.pretraining`: one command re-makes each asset (see assets/README.md)."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from my3dgen.errors import My3DGenError

TRAINED = ("prior", "sharpen", "landmarks", "perceptual", "identity", "encoder", "attributes")  # have options


def main(argv=None) -> int:
    parser = argparse.ArgumentParser("python -m my3dgen.pretraining")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, about: str, **arguments) -> None:
        sub = commands.add_parser(name, help=about, description=about)
        for key, value in arguments.items():
            options = {"default": value, "type": type(value)} if value is not None else {}
            sub.add_argument(("" if value is None else "--") + key, **options)
        if name in TRAINED:
            sub.add_argument(
                "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other options of this step"
            )

    command("convert-facekit", "ICT-FaceKit's FaceXModel folder -> one .npz", source=None, target=None)
    command("render", "draw people for training", out="data/train", first=0, shards=20, people=250)
    command("prior", "train the heads prior (resumes)", data="data/train", out="runs/prior")
    command(
        "export-prior",
        "averaged weights of a checkpoint -> a prior, to be sharpened",
        run="runs/prior",
        out="runs/prior.safetensors",
    )
    command(
        "sharpen",
        "train that prior's super-resolution on against a critic (resumes)",
        data="data/train",
        prior="runs/prior.safetensors",
        out="assets/heads.safetensors",
    )
    command("landmarks", "train the 68-landmark predictor", data="data/train", out="assets/landmarks68.dat")
    command("perceptual", "train the perceptual trunk", data="data/train", out="assets")
    command(
        "identity-people",
        "draw people for an identity encoder",
        out="data/identity_loss.npz",
        seed=101,
        people=1100,
    )
    command(
        "identity", "train an identity encoder", purpose="loss", data="data/identity_loss.npz", out="assets"
    )
    command(
        "encoder",
        "fit the encoder's head to the current prior",
        data="data/train",
        out="assets/encoder.safetensors",
    )
    command(
        "attributes",
        "train the attribute scorer, then find the current prior's editing directions",
        data="data/train",
        out="assets",
    )
    command(
        "directions",
        "only the current prior's editing directions",
        out="assets/directions.safetensors",
    )
    command("examples", "draw the example people", out="examples")
    command("adapters", "personalize the current prior to the example people", out="examples", names="")
    command("ready", "what every task makes of the example people, beforehand", out="examples", names="")
    command("quality", "contact sheets and figures of the current prior", out="assets", people=40, views=500)
    command(
        "encoder-start",
        "50 steps of projection from the encoder beside 500 from w_avg, ours and the papers'",
        photos="examples/ada/photo_01.jpg examples/chidi/photo_02.jpg",
    )
    args = parser.parse_args(argv)
    try:
        result = RUN[args.command](args)
    except My3DGenError as error:
        print(f"my3dgen: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0


def _options(kind, args):
    """The step's options dataclass from the command line: its own arguments, and --set FIELD=VALUE."""
    types = {f.name: type(f.default) for f in fields(kind)}
    values = {k: v for k, v in vars(args).items() if k in types}
    for pair in args.set:
        key, _, value = pair.partition("=")
        if key not in types:
            raise My3DGenError(f"--set {pair}: the fields are {', '.join(types)}")
        try:
            values[key] = {"True": True, "False": False}[value] if types[key] is bool else types[key](value)
        except (KeyError, ValueError) as error:
            wanted = "True or False" if types[key] is bool else f"a value like {types[key].__name__}"
            raise My3DGenError(f"--set {pair}: expected {wanted}") from error
    return kind(**values)


def _convert(args):
    from my3dgen.pretraining.facekit import convert

    convert(args.source, args.target)
    return {"written": args.target}


def _render(args):
    from my3dgen.pretraining.dataset import write_shards

    write_shards(args.out, args.first, args.shards, args.people)
    return {"written": args.out}


def _prior(args):
    from my3dgen.pretraining.prior import PriorOptions, Trainer

    Trainer(_options(PriorOptions, args)).run()
    return {"written": args.out}


def _export(args):
    from my3dgen.pretraining.prior import export

    return export(Path(args.run) / "checkpoint.pt", args.out)


def _sharpen(args):
    from my3dgen.pretraining.sharpen import Sharpener, SharpenOptions

    return Sharpener(_options(SharpenOptions, args)).run()


def _landmarks(args):
    from my3dgen.pretraining.landmarks import LandmarkOptions, train

    return train(_options(LandmarkOptions, args))


def _perceptual(args):
    from my3dgen.pretraining.trunk import TrunkOptions, train

    return train(_options(TrunkOptions, args))


def _identity_people(args):
    from my3dgen.pretraining.identity import write_people

    write_people(args.out, args.seed, args.people)
    return {"written": args.out}


def _identity(args):
    from my3dgen.pretraining.identity import IdentityOptions, train

    return train(_options(IdentityOptions, args))


def _encoder(args):
    from my3dgen.pretraining.encoder import EncoderOptions, train
    from my3dgen.priors import load_prior

    return train(load_prior("heads", device="cpu"), _options(EncoderOptions, args))


def _attributes(args):
    from my3dgen.pretraining.attributes import AttributeOptions, train
    from my3dgen.priors import load_prior

    return train(load_prior("heads", device="cpu"), _options(AttributeOptions, args))


def _directions(args):
    from my3dgen.pretraining.attributes import train_directions
    from my3dgen.priors import load_prior

    return train_directions(load_prior("heads", device="cpu"), args.out)


def _examples(args):
    from my3dgen.pretraining.examples import write

    write(args.out)
    return {"written": args.out}


def _adapters(args):
    from my3dgen.pretraining.examples import write_adapters
    from my3dgen.priors import load_prior

    return write_adapters(load_prior("heads"), args.out, args.names.split())


def _ready(args):
    from my3dgen.evaluation.ready import make
    from my3dgen.priors import load_prior

    return make(load_prior("heads"), args.out, args.names.split())


def _quality(args):
    from my3dgen.pretraining.quality import against_truth, contact_sheets, detection, fronts_come_back
    from my3dgen.priors import load_prior

    prior = load_prior("heads", device="cpu")
    figures = against_truth(prior, args.people) | fronts_come_back(prior, args.people)
    figures |= detection(prior, args.views)
    return contact_sheets(prior, args.out) | figures


def _encoder_start(args):
    from my3dgen.pretraining.quality import encoder_start
    from my3dgen.priors import load_prior

    return encoder_start(load_prior("heads", device="cpu"), args.photos.split())


RUN = {
    "convert-facekit": _convert,
    "render": _render,
    "prior": _prior,
    "export-prior": _export,
    "sharpen": _sharpen,
    "landmarks": _landmarks,
    "perceptual": _perceptual,
    "identity-people": _identity_people,
    "identity": _identity,
    "encoder": _encoder,
    "attributes": _attributes,
    "directions": _directions,
    "examples": _examples,
    "adapters": _adapters,
    "ready": _ready,
    "quality": _quality,
    "encoder-start": _encoder_start,
}

if __name__ == "__main__":
    sys.exit(main())
