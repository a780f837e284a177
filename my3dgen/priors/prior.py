"""A pretrained generator that is only ever looked at, and light personalized views of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from my3dgen.cameras import look_at_sampler
from my3dgen.errors import My3DGenError, shown
from my3dgen.models.eg3d import lora
from my3dgen.models.eg3d.config import CATS, GeneratorConfig
from my3dgen.models.eg3d.generator import Generator
from my3dgen.priors.releases import kind_of

if TYPE_CHECKING:
    from my3dgen.personal.adapter import Adapter
    from my3dgen.personal.anchors import Anchors

STATISTICS_SAMPLES = 10_000  # random z behind w_avg and w_std, as in StyleGAN2's projector
MAPPING_BATCH = 1_000  # mapped at a time
RENDER_BATCH = 4  # pictures rendered at a time


@dataclass
class _Statistics:
    """Mean and spread of w; shared by a prior and its personalized views, which share the mapping."""

    w_avg: Tensor | None = None
    w_std: float = 0.0


@dataclass(frozen=True, eq=False)
class Prior:
    """A generator with frozen weights. A personalized prior has the same interface.

    Nobody trains these weights: a personalization trains tensors of its own in a view (`models.eg3d.lora`).
    """

    name: str  # "heads", "ffhq", "cats", or the file's name
    sha256: str  # of the file the weights came from; ties adapters to it
    generator: Generator  # in eval mode, no parameter requires gradients
    adapter: Adapter | None = None  # whose face this is; None = nobody's
    base: Prior | None = None  # the prior a personalized one is a view of, or a tuned one came from
    anchors: Anchors | None = None  # the person's, which span their hull; None = nobody's
    _statistics: _Statistics = field(default_factory=_Statistics, repr=False)

    def __post_init__(self) -> None:
        self.generator.eval().requires_grad_(False)

    @property
    def config(self) -> GeneratorConfig:
        """Sizes and rendering options."""
        return self.generator.config

    @property
    def kind(self) -> str:
        """The kind of faces it knows, as `my3dgen.prepare` calls them: "person" or "cat".

        A file may have any name; the official cats are looked at around a point of their own, and it says so.
        """
        return "cat" if self.config.camera_pivot == CATS.camera_pivot else kind_of(self.name)

    @property
    def small(self) -> bool:
        """Whether fits of it are short, fast and in full precision, as suits 256 px; larger ones go by the releases."""
        return self.config.output_resolution <= 256

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.generator.parameters()).device

    @property
    def num_ws(self) -> int:
        """Latent vectors per picture (L)."""
        return self.config.num_ws

    @property
    def w_avg(self) -> Tensor:
        """Mean of 10,000 latents mapped at the frontal camera, [w_dim]: where projections start."""
        if self._statistics.w_avg is None:
            self._measure()
        return self._statistics.w_avg

    @property
    def w_std(self) -> float:
        """Their spread: the root mean squared distance from `w_avg`."""
        if self._statistics.w_avg is None:
            self._measure()
        return self._statistics.w_std

    @torch.no_grad()
    def _measure(self) -> None:
        config = self.config
        # The seed and the generator are part of the published recipe.
        z = np.random.RandomState(123).randn(STATISTICS_SAMPLES, config.z_dim)  # noqa: NPY002
        front = look_at_sampler(0.0, 0.0, pivot=config.camera_pivot, radius=config.camera_radius)
        parts = []
        for batch in torch.from_numpy(z).float().split(MAPPING_BATCH):
            c = front.expand(len(batch), -1).to(self.device)
            parts.append(self.generator.mapping(batch.to(self.device), c)[:, 0])
        w = torch.cat(parts).double()
        w_avg = w.mean(dim=0)
        self._statistics.w_std = float(((w - w_avg).square().sum() / len(w)).sqrt())
        self._statistics.w_avg = w_avg.float()

    def personalized(self, adapter: Adapter) -> Prior:
        """This prior with a person's adapter: a light view that shares the weights. Nothing here changes.

        Raises `My3DGenError` where the adapter was made for another prior or does not fit it.
        """
        base = self.base or self
        base._require_match(adapter)
        tensors = {name: tensor.to(base.device, torch.float32) for name, tensor in adapter.tensors.items()}
        generator = lora.view(base.generator, tensors, adapter.options)
        anchors = adapter.anchors.require_fit(base)
        return Prior(base.name, base.sha256, generator, adapter, base, anchors, base._statistics)

    def to(self, device: torch.device | str) -> Prior:
        """A copy on a device, and what it is a view of likewise. This one stays where it is: others may use it."""
        if torch.device(device) == self.device:
            return self
        known = self._statistics
        w_avg = None if known.w_avg is None else known.w_avg.to(device)
        return replace(
            self,
            generator=lora.twin_of(self.generator).to(device),
            base=self.base and self.base.to(device),
            _statistics=_Statistics(w_avg, known.w_std),
        )

    def rows(self, adapters: Sequence[Adapter | None]) -> Generator:
        """A generator for batches of which row i is adapters[i]'s (None: nobody), see `lora.rows_view`."""
        base = self.base or self
        rows = []
        for adapter in adapters:
            if adapter is None:
                rows.append(None)
                continue
            base._require_match(adapter)
            tensors = {
                name: tensor.to(base.device, torch.float32) for name, tensor in adapter.tensors.items()
            }
            rows.append((tensors, adapter.options))
        return lora.rows_view(base.generator, rows)

    def _require_match(self, adapter: Adapter) -> None:
        if not hasattr(adapter, "prior_sha256"):
            raise My3DGenError(
                f"An adapter is what `personalize` or `load_adapter` gives; got {shown(adapter)}."
            )
        if adapter.prior_sha256 != self.sha256:
            raise My3DGenError(
                f"The adapter was made for the prior {adapter.prior_name!r} ({adapter.prior_sha256[:12]}), "
                f"this is {self.name!r} ({self.sha256[:12]}). Load the prior it was made for, or personalize "
                "this one."
            )

    @torch.no_grad()
    def render(self, ws: Tensor, camera: Tensor) -> Tensor:
        """Pictures of latents from cameras; the same input gives the same pixels.

        ws [L, w_dim] or [B, L, w_dim], camera [25] or [B, 25]; one of them may be single and serve all of the
        other.
        Returns float32 [3, H, W] in -1..1 where both are single, [B, 3, H, W] otherwise.
        """
        ws, camera = (
            self._batched("ws", ws, (self.num_ws, self.config.w_dim)),
            self._batched("camera", camera, (25,)),
        )
        (ws, one_face), (camera, one_view) = ws, camera
        if len(ws) != len(camera) and 1 not in (len(ws), len(camera)):
            raise My3DGenError(
                f"Got {len(ws)} latents and {len(camera)} cameras; give as many of each, or one."
            )
        images = []
        planes = self.generator.planes(ws) if len(ws) == 1 else None  # one face from many cameras
        for i in range(0, max(len(ws), len(camera)), RENDER_BATCH):
            part = slice(i, i + RENDER_BATCH)
            w, c = (x if len(x) == 1 else x[part] for x in (ws, camera))
            images.append(self.generator.synthesis(w, c, planes=planes)["image"])
        image = torch.cat(images).clamp(-1, 1)
        return image[0] if one_face and one_view else image

    def require_latent(self, ws: Tensor) -> None:
        """Raise My3DGenError where ws is not one latent of this prior's, [L, w_dim]."""
        expected = (self.num_ws, self.config.w_dim)
        if tuple(ws.shape) != expected:
            raise My3DGenError(
                f"ws has shape {tuple(ws.shape)}; the prior {self.name!r} expects one latent of {list(expected)}."
            )

    def _batched(self, name: str, value: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, bool]:
        """The value with a batch dimension on our device, and whether it came without one."""
        try:
            value = torch.as_tensor(value, dtype=torch.float32, device=self.device)
        except (TypeError, ValueError, RuntimeError):
            raise My3DGenError(
                f"{name} is {shown(value)}; it must be numbers of shape {list(shape)}."
            ) from None
        if (
            tuple(value.shape[-len(shape) :]) != shape
            or value.ndim not in (len(shape), len(shape) + 1)
            or not len(value)
        ):
            raise My3DGenError(
                f"{name} has shape {tuple(value.shape)}; the prior {self.name!r} expects {list(shape)} "
                "or a batch of such."
            )
        if not torch.isfinite(value).all():
            raise My3DGenError(
                f"{name} holds numbers that are not finite; nothing can be rendered from such."
            )
        single = value.ndim == len(shape)
        return (value.unsqueeze(0) if single else value), single
