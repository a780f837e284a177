"""Files of the authors' My3DGen and of EG3D as ours: a prior to load, and a person's adapter beside it."""

from __future__ import annotations

from pathlib import Path

import torch

from my3dgen.assets import sha256
from my3dgen.cameras import look_at_sampler
from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.lora import LoraOptions
from my3dgen.personal.adapter import Adapter
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.dataset import read_anchors
from my3dgen.priors import files, load_prior, official
from my3dgen.priors.prior import Prior

SAME = 1e-3  # how far weights may lie apart that had an update worked in and taken out again


def convert(source: str | Path, target: str | Path) -> Prior:
    """Any prior as one file of ours with the same pictures; it goes by the hash of the file it came from.

    A snapshot of My3DGen's stays the personalized prior that it is; `take_apart` gives base and adapter.
    Raises `My3DGenError` where the source is no prior, or the target no .safetensors file that can be written.
    """
    _require_targets(source, target)
    prior = load_prior(source, "cpu")
    files.save_prior(target, prior.generator, prior.name, source_sha256=prior.sha256)
    return prior


def take_apart(
    source: str | Path,
    target: str | Path,
    adapter: str | Path,
    prior: str | Path | None = None,
    latents: str | Path | None = None,
) -> Adapter:
    """A snapshot of My3DGen's as a base (written to `target`) and an adapter (written to `adapter`).

    prior: the prior the snapshot was trained on, by name or path: the adapter is made for that one, which then
        needs no file but the adapter. None: it is made for the base in `target`.
    latents: the training folder (images, `*_latent.npy`, dataset.json), whose latents become the anchors. The
        snapshot holds none: without the folder the mean face from the front is the only one.
    Raises `My3DGenError` where there is nothing to take apart, where `prior` is another network, or where a file
        to write is none.
    """
    _require_targets(source, target, adapter)
    parts = official.split(Path(source))
    base = parts.base
    anchors = None
    if latents is not None:
        anchors = read_anchors(latents, base.num_ws, base.config.w_dim)
        if anchors is None:
            raise My3DGenError(
                f"{latents} lacks a *_latent.npy for one of its images; give the whole training folder."
            )
    original = None if prior is None else load_prior(prior, "cpu")
    if original is not None:
        _require_same(base, original, parts.options)
    name = Path(source).stem
    files.save_prior(target, base, name)
    made = Adapter(
        name if original is None else original.name,
        sha256(Path(target)) if original is None else original.sha256,
        parts.options,
        parts.tensors,
        anchors or _mean_face(base),
    )
    made.save(adapter)
    return made


def _require_targets(source: str | Path, *targets: str | Path) -> None:
    """Said before the work: what is written are .safetensors files, each one of its own, in folders that exist."""
    for path in map(Path, targets):
        if path.is_dir():
            raise My3DGenError(
                f"{path} is a folder; give a file in it, such as {path / (Path(source).stem + '.safetensors')}."
            )
        if path.suffix.lower() != ".safetensors":
            raise My3DGenError(
                f"What is written is a .safetensors file; got {path.name[:200]!r}. Give a name such as "
                f"{(path.stem or 'prior')[:100]}.safetensors."
            )
        if not path.parent.is_dir():
            raise My3DGenError(
                f"There is no folder {path.parent} to write {path.name[:200]} to; make it first."
            )
    places = [Path(path).resolve() for path in (source, *targets)]
    if len(set(places)) < len(places):
        raise My3DGenError("Two of the files are the same; give every file a name of its own.")


def _mean_face(base: Generator) -> Anchors:
    config = base.config
    front = look_at_sampler(0.0, 0.0, pivot=config.camera_pivot, radius=config.camera_radius)
    return Anchors(base.backbone.mapping.w_avg.expand(1, base.num_ws, -1), front[None])


def _require_same(base: Generator, original: Prior, options: LoraOptions) -> None:
    """The base is the original but for what training changed: its personal tensors, and rounding."""
    if base.config != original.config:
        raise My3DGenError(
            f"The snapshot was not trained on the prior {original.name!r}: its sizes or options differ."
        )
    personal = lora.own_shapes(base, options)
    theirs = dict(original.generator.named_parameters())
    for name, value in base.named_parameters():
        if name not in personal and not torch.allclose(value, theirs[name].cpu(), rtol=SAME, atol=SAME):
            raise My3DGenError(
                f"The snapshot was not trained on the prior {original.name!r}: {name} differs. Give the prior it was "
                "trained on, or none."
            )
