"""One fit for every task: which point of a person's latent hull explains a photo, or what is left of it.

A person's anchors span a convex hull; a little dilated, its points are this person in other moments (MyStyle). Without
anchors the same fit moves freely in W, as projection does. Noise maps stay the model's own in both, so that neither hides
in noise what its latent cannot show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from torch import Tensor

from my3dgen.errors import My3DGenError, require_numbers, whole
from my3dgen.faces import Face
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.degradations import Degradation, Identity
from my3dgen.personal.encode import Latents, encode
from my3dgen.personal.images import to_uint8
from my3dgen.personal.objective import Objective, Targets, Weights, photo, untouched
from my3dgen.personal.pose import Correction
from my3dgen.personal.project import ProjectOptions
from my3dgen.personal.slices import Descent, drive
from my3dgen.progress import ProgressCallback

STARTS = 12  # at most so many anchors are tried as the start of a fit


@dataclass(frozen=True)
class HullOptions:
    """How a photo is fitted. `for_prior` gives each prior's defaults."""

    steps: int = 1000  # in all
    coarse_steps: int = 0  # of these, the first ones see only a small volume render (fast, for `heads`)
    coarse_resolution: int = 32  # side of that render, and of those that choose the start
    lr: float = 5e-3  # Adam on alpha
    lr_ramp_down: float = 0.25  # share of the steps over which the rates fall to zero (cosine)
    beta: float = 0.03  # dilation of the hull: alpha >= -beta; larger is more fidelity and less prior
    sharpness: float = 100.0  # of the softplus that keeps alpha above -beta
    sum_weight: float = 10.0  # holds the sum of the raw weights at 1
    per_layer: bool = False  # further weights for each layer (MyStyle's alpha+)
    delta_weight: float = 10.0  # holds the first two thirds of the layers together where there are such
    camera_lr: float = 0.001  # Adam on where the camera stands, radians about the origin; 0 keeps it there
    aim_lr: float = 0.001  # Adam on where it looks, radians; 0 keeps that
    background: float = 0.1  # weight of pixels outside the head
    half: bool = False  # super-resolution in bfloat16, with anchors or without
    # without anchors w moves as in projection: the steps, their rates and the coarse render of these options
    free: ProjectOptions = field(default_factory=ProjectOptions)
    seed: int = 0  # of the perturbation of w

    def __post_init__(self):
        require_numbers(
            self,
            whole={"steps": 0, "coarse_steps": 0, "coarse_resolution": 1, "seed": 0},
            real=dict.fromkeys(("lr", "lr_ramp_down", "beta", "sum_weight", "delta_weight"), 0.0)
            | {"camera_lr": 0.0, "aim_lr": 0.0, "background": 0.0, "sharpness": 1e-3},
        )

    @staticmethod
    def for_prior(prior) -> HullOptions:
        """The published schedule, and a short one for small priors."""
        p = ProjectOptions.for_prior(prior)
        o = HullOptions(free=p, half=p.half)
        if prior.small:
            return replace(o, steps=36, coarse_steps=30, lr=0.03, camera_lr=p.camera_lr, aim_lr=p.aim_lr)
        return o


@dataclass(frozen=True, eq=False)
class Fit:
    """What explains a photo."""

    ws: Tensor  # [L, w_dim]
    camera: Tensor  # [25], refined
    alpha: Tensor | None  # [N] (or [L, N] per layer), weights of the anchors, sum 1; None without anchors
    loss: float  # of the last step; nan where there was none


class Hull:
    """Points of the dilated hull of N anchors, by raw weights that may be any numbers."""

    def __init__(self, anchors: Anchors, beta: float = 0.03, sharpness: float = 100.0, device=None):
        if len(anchors) == 0:
            raise My3DGenError("There are no anchors; project at least one photo of the person first.")
        self.anchors = anchors.ws.to(device or anchors.ws.device)  # [N, L, w_dim]
        self.beta, self.sharpness = beta, sharpness

    def __len__(self) -> int:
        return len(self.anchors)

    def weights(self, raw: Tensor) -> Tensor:
        """Raw [..., N] -> alpha [..., N] with sum 1 and, up to that division, at least -beta."""
        alpha = F.softplus(raw + self.beta, beta=self.sharpness) - self.beta
        return alpha / alpha.sum(-1, keepdim=True)

    def raw(self, alpha: Tensor) -> Tensor:
        """The inverse of `weights` for alpha [..., N] with sum 1; what lies on the edge moves in by a trace."""
        above = (alpha + self.beta).clamp(min=1e-3 / self.sharpness)
        # log(exp(x) - 1), safe for large x
        x = self.sharpness * above
        return (x + torch.log(-torch.expm1(-x))) / self.sharpness - self.beta

    def at(self, alpha: Tensor) -> Tensor:
        """The latent [L, w_dim] of weights alpha [N], or [L, N] with one row a layer."""
        rows = alpha if alpha.ndim == 2 else alpha.expand(self.anchors.shape[1], -1)
        return torch.einsum("ln,nlw->lw", rows, self.anchors)

    def ws(self, raw: Tensor) -> Tensor:
        """The latent [L, w_dim] of raw weights [N] or [L, N]."""
        return self.at(self.weights(raw))

    def alpha_of(self, ws: Tensor) -> Tensor:
        """Weights [N] of the hull's point nearest to a latent [L, w_dim] or [w_dim] (least squares).

        With a = b - beta and b >= 0 this is non-negative least squares; the sum is held by a heavy row.
        """
        n, layers = len(self), self.anchors.shape[1]
        points = self.anchors.reshape(n, -1).double().cpu().numpy().T  # [L * w_dim, N]
        target = ws.detach().expand(layers, -1).reshape(-1).double().cpu().numpy()
        heavy = 1e3 * max(np.abs(points).max(), 1e-6) * np.sqrt(len(points))
        design = np.vstack([points, np.full((1, n), heavy)])
        goal = np.append(target + self.beta * points.sum(1), heavy * (1 + self.beta * n))
        alpha = torch.from_numpy(nnls(design, goal)[0] - self.beta).float()
        return (alpha / alpha.sum()).to(self.anchors.device)


def fit(
    prior,
    face: Face,
    degradation: Degradation | None = None,
    anchors: Anchors | None = None,
    options: HullOptions | None = None,
    progress: ProgressCallback | None = None,
    steps: int | None = None,
) -> Fit:
    """Find the latent and the camera that explain a photo after a degradation.

    Args:
        prior: personalized (then the person's anchors span the hull) or not (then w moves freely in W).
        degradation: applied alike to the photo and to the renders; None: nothing is lost.
        anchors: other anchors to use. One anchor leaves nothing to weigh: only the camera is refined. Two are
            a line, three a triangle; every number works.
        progress: called after every step; returning False stops and keeps what there is.
        steps: overrides the options' number; coarse steps shrink in proportion.

    Raises:
        My3DGenError: where the face was refused, the anchors do not fit the prior, or the steps are no whole number from 0.
    """
    if face.refused:
        raise My3DGenError(face.refused)
    anchors = prior.anchors if anchors is None else anchors
    o = options or HullOptions.for_prior(prior)
    if anchors is None:
        free = o.free
        o = replace(
            o, steps=free.steps, coarse_steps=free.coarse_steps, coarse_resolution=free.coarse_resolution
        )
    total = o.steps if steps is None else whole("steps", steps)
    o = replace(o, steps=total, coarse_steps=round(o.coarse_steps * total / max(o.steps, 1)))
    search = _Search(prior, face, degradation or Identity(), anchors, o)
    return search.result(drive(search, "fit", total, progress))


class _Comparison:
    """The degraded photo at every size in which renders of it come."""

    def __init__(self, prior, face: Face, degradation: Degradation, background: float):
        self.degradation = degradation
        self.objective = Objective(prior)
        self.photo = photo(face).to(prior.device)
        self.weights = Weights([face], background, prior.device)
        self.camera = torch.as_tensor(np.asarray(face.camera), dtype=torch.float32, device=prior.device)[None]
        self._targets: dict[int, Targets] = {}

    def loss(self, render: Tensor) -> Tensor:
        """Scalar loss of a render [1, 3, S, S] of any size."""
        t = self._target(render.shape[-1])
        return self.objective.high(self.degradation(render), t).sum()

    def coarsest(self, first: int, last: int) -> int:
        """The smallest side, from `first` and doubling up to `last`, at which the head can be seen; 0: there is none.

        A pixel says nothing where any hidden one has a part in it, so a mask with many thin strokes hides all of a small
        render. It will do where half as much of the head is left as in the final picture.
        """
        wanted = 0.5 * self._head_left(self.photo.shape[-1])
        while first <= last:
            if self._head_left(first) > wanted:
                return first
            first *= 2
        return 0

    def _head_left(self, size: int) -> float:
        """Which share of the head renders of a size are compared on."""
        visible = self.degradation.weight(size)
        head = F.interpolate(self.weights.heads, size=(size, size), mode="area")
        left = head * untouched(self.weights.valid, size)
        if visible is not None:
            left = left * visible.to(left)
        return float(left.sum() / head.sum().clamp(min=1e-6))

    def _target(self, size: int) -> Targets:
        if size not in self._targets:
            seen = self.degradation.observed(self.photo, size)
            weight = self.weights.at(seen.shape[-1])
            visible = self.degradation.weight(size)
            if visible is not None:
                weight = weight * visible.to(weight)
            if not bool((weight > 0).any()):
                raise My3DGenError("Nothing of the face is left to look at; hide less of it.")
            weight = weight / weight.mean()
            self._targets[size] = Targets(seen, seen, weight, weight, self.camera)
        return self._targets[size]


class _Search(Descent):
    """The variables of one fit and how they move."""

    def __init__(self, prior, face: Face, degradation: Degradation, anchors: Anchors | None, o: HullOptions):
        self.prior, self.o = prior, o
        self.compared = _Comparison(prior, face, degradation, o.background)
        self.rng = torch.Generator().manual_seed(o.seed)
        first = o.coarse_resolution
        self.coarse_side = self.compared.coarsest(first, max(first, prior.config.neural_resolution))
        self.coarse_steps = o.coarse_steps if self.coarse_side else 0
        self.hull = None if anchors is None else self._hull(anchors)
        guess = self._encoder_guess(degradation)
        self.deltas = None
        if self.hull:
            self.shared, lr, betas = self._best_start(guess).requires_grad_(True), o.lr, (0.9, 0.999)
        else:
            self.latents = Latents(prior.w_avg if guess is None else guess, o.free.basis_of(prior))
            self.shared, lr, betas = self.latents.moved, o.free.lr, o.free.betas
        moving = [{"params": [self.shared], "scale": lr}]
        if self.hull and o.per_layer:
            self.deltas = torch.zeros(prior.num_ws, len(self.hull), device=prior.device, requires_grad=True)
            moving.append({"params": [self.deltas], "scale": o.lr})
        self.correction = Correction(1, prior.device)
        moving += self.correction.groups(o.camera_lr, o.aim_lr)
        self.optimiser = torch.optim.Adam(moving, lr=lr, betas=betas)
        self.last = torch.zeros_like(self.compared.photo)

    def _hull(self, anchors: Anchors) -> Hull:
        return Hull(anchors.require_fit(self.prior), self.o.beta, self.o.sharpness, self.prior.device)

    def variables(self) -> dict[str, Tensor]:
        found = {"shared": self.shared} | self.correction.variables()
        return found if self.deltas is None else found | {"deltas": self.deltas}

    # ---- where to start

    @torch.no_grad()
    def _encoder_guess(self, degradation: Degradation) -> Tensor | None:
        """w [w_dim] as the encoder reads what is left of the photo; None where the prior has no encoder.

        What is hidden is filled in with the prior's mean face first, then with what that gave.
        """
        photo, w = self.compared.photo, self.prior.w_avg
        for _ in range(2 if degradation.hides else 1):
            render = photo
            if degradation.hides:
                render = self._coarse(self._spread(w), self.prior.config.neural_resolution).clamp(-1, 1)
            guess = encode(self.prior, degradation.completed(photo, render))
            if guess is None:
                return None
            w = guess[0]
        return w

    @torch.no_grad()
    def _best_start(self, guess: Tensor | None) -> Tensor:
        """Raw weights [N] of whichever looks most like the photo: mean, encoder's guess, or an anchor's own.

        An anchor starts mixed half and half with the mean, the guess with a quarter of it, so that no weight is stuck at
        the hull's edge: raw weights there are far below the others, and the penalty on their sum would push all of them.
        """
        n, device = len(self.hull), self.prior.device
        even = torch.full((n,), 1.0 / n, device=device)
        if n == 1:
            return self.hull.raw(even)
        if not self.coarse_side:
            return self.hull.raw(even if guess is None else 0.25 * even + 0.75 * self.hull.alpha_of(guess))
        tried = torch.linspace(0, n - 1, min(n, STARTS), device=device).round().long()
        starts = [even, *(0.5 * even + 0.5 * row for row in torch.eye(n, device=device)[tried])]
        if guess is not None:
            starts.append(0.25 * even + 0.75 * self.hull.alpha_of(guess))
        losses = [float(self.compared.loss(self._coarse(self.hull.at(a)))) for a in starts]
        return self.hull.raw(starts[int(np.argmin(losses))])

    # ---- one step

    def _spread(self, w: Tensor) -> Tensor:
        return w.expand(self.prior.num_ws, -1)

    def _raw(self) -> Tensor:
        return self.shared if self.deltas is None else self.shared + self.deltas

    def _ws(self) -> Tensor:
        """The current latent [L, w_dim]."""
        return self.hull.ws(self._raw()) if self.hull else self._spread(self.latents.w)

    def _camera(self) -> Tensor:
        return self.correction(self.compared.camera)

    def _coarse(self, ws: Tensor, resolution: int | None = None, camera: Tensor | None = None) -> Tensor:
        """A small volume render [1, 3, r, r]."""
        generator, r = self.prior.generator, resolution or self.coarse_side
        camera = self.compared.camera if camera is None else camera
        features, _, _ = generator.renderer(generator.planes(ws[None]), generator.decoder, camera, r)
        return features[:, :3]

    def step(self, step: int) -> float:
        """One step of Adam; returns the loss without penalties."""
        o = self.o
        ws = self._ws()
        if self.hull:
            self.anneal(step, o.steps, o.lr_ramp_down)
        else:
            self.anneal(step, o.steps, o.free.lr_ramp_down, o.free.lr_ramp_up)
            ws = ws + o.free.shake(self.prior, step / max(o.steps, 1), ws.shape[-1:], self.rng)
        self.optimiser.zero_grad(set_to_none=True)
        if step < self.coarse_steps:
            self.last = self._coarse(ws, camera=self._camera())
            loss = self.compared.loss(self.last)
        else:
            out = self.prior.generator.synthesis(ws[None], self._camera(), half=o.half)
            self.last = out["image"]
            loss = self.compared.loss(out["image"]) + self.compared.loss(out["image_raw"])
        (loss + sum(self._penalties())).backward()
        self.optimiser.step()
        return float(loss.detach())

    def _penalties(self) -> Iterator[Tensor]:
        o = self.o
        if self.hull is None:
            yield o.free.prior_weight * self.latents.unlikely()
            return
        yield o.sum_weight * (self._raw().sum(-1) - 1).square().mean()
        if self.deltas is not None:
            held = self.deltas[: round(len(self.deltas) * 12 / 18)]
            # the root's slope is not defined at 0, where the deltas start
            yield o.delta_weight * (held.square().sum(-1) + 1e-12).sqrt().sum()

    def preview(self) -> np.ndarray:
        """uint8 [S, S, 3] of the last step's render."""
        size = self.compared.photo.shape[-2:]
        return to_uint8(F.interpolate(self.last.detach(), size=size, mode="bilinear"))[0]

    @torch.no_grad()
    def result(self, loss: float) -> Fit:
        alpha = self.hull.weights(self._raw()).clone().cpu() if self.hull else None
        return Fit(self._ws().clone().cpu(), self._camera()[0].clone().cpu(), alpha, loss)
