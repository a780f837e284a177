"""Projection: which latent and camera make the prior show each photo (StyleGAN2's projector)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from my3dgen.errors import require_numbers, whole
from my3dgen.faces import Face
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.device import half_pays, photos_at_once
from my3dgen.personal.encode import Basis, Latents, axes, basis, encode
from my3dgen.personal.images import to_uint8
from my3dgen.personal.objective import Objective, Targets, targets, usable
from my3dgen.personal.pose import Correction
from my3dgen.personal.slices import Descent, drive
from my3dgen.progress import ProgressCallback


@dataclass(frozen=True)
class ProjectOptions:
    """How photos are projected. `for_prior` gives each prior's defaults."""

    steps: int = 500  # in all
    coarse_steps: int = 0  # of these, the first ones see only a volume render (for `heads`)
    coarse_resolution: int = 32  # side of that render
    lr: float = 0.01  # Adam on w, or along the encoder's basis
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's
    lr_ramp_down: float = 0.25  # share of the steps over which the rate falls to zero (cosine)
    lr_ramp_up: float = 0.05  # share over which it rises
    w_noise: float = 0.05  # perturbation of w in units of w_std, falling to zero
    w_noise_ramp: float = 0.75  # share of the steps with perturbation
    noise_maps: bool = True  # fit the noise maps too, where the generator gives noise any strength
    noise_weight: float = 1e5  # weight of the noise maps' autocorrelation
    camera_lr: float = 0.001  # Adam on where the camera stands, radians about the origin; 0 keeps it there
    aim_lr: float = 0.001  # Adam on where it looks, radians, of which a picture is 0.23 wide; 0 keeps that
    prior_weight: float = 0.0  # of `Latents.unlikely`, a pull towards the mean face
    plus: bool = False  # one w per layer (W+) instead of one for all
    use_encoder: bool = True  # start from the encoder where the prior has one
    use_basis: bool = False  # move w along the encoder's basis, where the prior has one, not the axes of W
    micro_batch: int = 4  # photos rendered at once
    background: float = 0.1  # weight of pixels outside the head
    half: bool = False  # super-resolution in bfloat16
    seed: int = 0

    def __post_init__(self):
        require_numbers(
            self,
            whole={"steps": 0, "coarse_steps": 0, "coarse_resolution": 1, "micro_batch": 1, "seed": 0},
            real=dict.fromkeys(("lr", "lr_ramp_down", "lr_ramp_up", "w_noise", "noise_weight"), 0.0)
            | {"camera_lr": 0.0, "aim_lr": 0.0, "prior_weight": 0.0, "background": 0.0, "w_noise_ramp": 1e-3},
        )

    @staticmethod
    def for_prior(prior) -> ProjectOptions:
        """The published schedule, and a short one for small priors, along the encoder's basis where there is one."""
        together = photos_at_once(prior.device, prior.config.output_resolution)
        if prior.small:
            # a person's own noise has strength, the prior's has none: both are drawn with the maps they come with
            # cameras move fast: landmarks are several degrees off where they take a long face for a nod
            o = ProjectOptions(camera_lr=0.012, w_noise=0.0, noise_maps=False, micro_batch=together)
            if basis(prior) is None:
                return replace(o, steps=36, coarse_steps=30, lr=0.08, prior_weight=1e-5)
            return replace(
                o,
                steps=24,
                coarse_steps=6,  # hardly faster than the others, but they keep some faces out of a poor minimum
                coarse_resolution=prior.config.neural_resolution,
                lr=0.4,
                betas=(0.6, 0.8),
                lr_ramp_down=0.7,
                prior_weight=3e-4,  # fits end as far out as random faces lie; a third of it, twice as far, is no more like the person
                use_basis=True,
            )
        return ProjectOptions(micro_batch=together, half=half_pays(prior.device))

    def basis_of(self, prior) -> Basis:
        """What w moves along."""
        return (self.use_basis and basis(prior)) or axes(prior)

    def shake(self, prior, done: float, shape: Sequence[int], rng: torch.Generator) -> Tensor:
        """The perturbation of latents of a shape when a share of the steps is done; zeros at the end."""
        left = max(0.0, 1 - done / self.w_noise_ramp)
        scale = prior.w_std * self.w_noise * left**2
        return (torch.randn(shape, generator=rng) * scale).to(prior.device)


def project(
    prior,
    faces: Sequence[Face],
    steps: int | None = None,
    progress: ProgressCallback | None = None,
    options: ProjectOptions | None = None,
) -> Anchors:
    """Find a latent and a refined camera for every accepted face; refused faces are skipped.

    Args:
        prior: the unpersonalized (or a personalized) prior.
        steps: overrides the options' number; coarse steps shrink in proportion.
        progress: called after every step with a preview now and then; returning False stops and keeps what there is.

    Returns:
        Anchors: ws [N, L, w_dim], cameras [N, 25], sources.

    Raises:
        My3DGenError: where no face can be used, or the steps are no whole number from 0.
    """
    o = options or ProjectOptions.for_prior(prior)
    if steps is not None:
        steps = whole("steps", steps)
        o = replace(o, steps=steps, coarse_steps=round(o.coarse_steps * steps / max(o.steps, 1)))
    faces = usable(faces)
    fit = _Fit(prior, targets(prior, faces, o.background), o)
    drive(fit, "project", o.steps, progress)
    ws, cameras = fit.result()
    return Anchors(ws.cpu(), cameras.cpu(), tuple(f.source for f in faces))


class _Fit(Descent):
    """The variables of one projection and how they move."""

    def __init__(self, prior, t: Targets, o: ProjectOptions):
        self.prior, self.t, self.o = prior, t, o
        self.objective = Objective(prior)
        self.rng = torch.Generator().manual_seed(o.seed)
        n, length = len(t), prior.num_ws
        start = encode(prior, t.high) if o.use_encoder else None
        if start is None:
            start = prior.w_avg.expand(n, -1)
        start = start[:, None].expand(-1, length if o.plus else 1, -1)
        self.latents = Latents(start, o.basis_of(prior))
        self.correction = Correction(n, start.device)
        self.noise = self._noise_maps(n)
        groups = [{"params": [self.latents.moved], "scale": o.lr}]
        groups += [{"params": [m], "scale": o.lr} for m in self.noise.values()]
        groups += self.correction.groups(o.camera_lr, o.aim_lr)
        self.optimiser = torch.optim.Adam(groups, lr=o.lr, betas=o.betas)
        self.last: Tensor | None = None

    def _noise_maps(self, n: int) -> dict[str, Tensor]:
        """Maps to optimise, drawn anew; none where the options or the model leave noise out."""
        if not self.o.noise_maps:
            return {}
        strengths = {k: v for k, v in self.prior.generator.named_parameters() if k.endswith("noise_strength")}
        maps = {}
        for name, value in self.prior.generator.noise_maps().items():
            strength = strengths.get(name.replace("noise_const", "noise_strength"))
            if strength is not None and bool((strength != 0).any()):
                drawn = torch.randn((n, *value.shape), generator=self.rng)
                maps[name] = drawn.to(value.device).requires_grad_(True)
        return maps

    def variables(self) -> dict[str, Tensor]:
        return {"w": self.latents.moved} | self.correction.variables() | self.noise

    def cameras(self, rows=slice(None)) -> Tensor:
        return self.correction(self.t.cameras, rows)

    def step(self, step: int) -> float:
        """One step of Adam on all photos; returns their mean loss."""
        o, n = self.o, len(self.t)
        self.anneal(step, o.steps, o.lr_ramp_down, o.lr_ramp_up)
        shake = o.shake(self.prior, step / max(o.steps, 1), self.latents.start.shape, self.rng)
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for part in torch.arange(n).split(o.micro_batch):
            loss = self._loss(
                part, (self.latents.w + shake)[part].expand(-1, self.prior.num_ws, -1), step < o.coarse_steps
            )
            loss.sum().backward()
            total += float(loss.detach().sum())
        if o.prior_weight:
            (o.prior_weight * self.latents.unlikely()).backward()
        if self.noise:
            (o.noise_weight * sum(noise_correlation(m).sum() for m in self.noise.values())).backward()
        self.optimiser.step()
        with torch.no_grad():
            for m in self.noise.values():
                m -= m.mean((1, 2), keepdim=True)
                m *= m.square().mean((1, 2), keepdim=True).rsqrt()
        return total / n

    def _loss(self, part: Tensor, ws: Tensor, coarse: bool) -> Tensor:
        t, generator = self.t.rows(part), self.prior.generator
        noise = {k: v[part] for k, v in self.noise.items()} or None
        cameras = self.cameras(part)
        planes = generator.planes(ws, noise=noise)
        if coarse:
            features, _, _ = generator.renderer(planes, generator.decoder, cameras, self.o.coarse_resolution)
            self.last = features[:1, :3].detach()
            return self.objective.low(features[:, :3], t)
        out = generator.synthesis(ws, cameras, planes=planes, half=self.o.half)
        self.last = out["image"][:1].detach()
        return self.objective.high(out["image"], t) + self.objective.low(out["image_raw"], t)

    def preview(self) -> np.ndarray:
        """uint8 [S, S, 3] of a photo in the last step."""
        return to_uint8(
            torch.nn.functional.interpolate(self.last, size=self.t.high.shape[-2:], mode="bilinear")
        )[0]

    def result(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.latents.w.expand(-1, self.prior.num_ws, -1).clone(), self.cameras().clone()


def noise_correlation(maps: Tensor) -> Tensor:
    """Autocorrelation [B] of noise maps [B, r, r] at every halving down to 8 px (StyleGAN2, appendix D)."""
    total = 0.0
    while True:
        for axis in (1, 2):
            total = total + (maps * maps.roll(1, axis)).mean((1, 2)).square()
        if maps.shape[-1] <= 8:
            return total
        maps = torch.nn.functional.avg_pool2d(maps[:, None], 2)[:, 0] * 2
