"""Training of the `heads` prior in three stages: points in 3D against known depth, super-resolution alone on top of
that, then both together through the volume renderer."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d.config import HEADS
from my3dgen.models.eg3d.generator import Generator
from my3dgen.models.eg3d.volume import make_rays
from my3dgen.models.perceptual import load_perceptual
from my3dgen.pretraining.loop import LOG_EVERY, Elapsed, averaged, decayed, descend, set_rate, train_for
from my3dgen.pretraining.mapping import pieces, teach
from my3dgen.pretraining.people_data import Batch, Shards, attention, pick_pixels, rarity
from my3dgen.pretraining.shading import WALL
from my3dgen.priors import load_prior
from my3dgen.writing import replacing


@dataclass(frozen=True)
class PriorOptions:
    """How long and how fast the prior is trained. Defaults are for two CPU cores."""

    data: str = "data/train"  # folder of rendered shards
    out: str = "runs/prior"  # checkpoints and logs go here
    start_from: str = ""  # a prior file to train on (its w may be shorter); "" starts anew
    minutes_points: float = 96.0  # time for the stage in 3D
    minutes_super: float = 22.0  # time for super-resolution alone
    minutes_joint: float = 74.0  # time for everything together, through the volume renderer
    batch: int = 5  # people a step in 3D
    views: int = 2  # views of each of them: planes are the dear part, and both views share them
    pixels: int = 768  # pixels a view in 3D
    batch_super: int = 4  # people a step, super-resolution alone
    batch_joint: int = 3  # people a step, everything together
    batch_render: int = 2  # of these, people who are also rendered
    lr: float = 0.025  # Adam in 3D; decays as a cosine to a fiftieth
    lr_super: float = 0.006  # the same, super-resolution alone
    lr_joint: float = 0.004  # the same, everything together
    mapping_lr: float = 10.0  # the mapping's rate is this many times larger (its layers have lr_mul 0.01)
    depth_weight: float = 2.0  # of the rendered depth's error, everything together
    perceptual: float = 0.1  # weight of the perceptual distance of final pictures
    density_scale: float = 8.0  # raw density a unit of occupancy logit
    ema: float = 0.99  # decay of the averaged weights, which are what is saved; runs are short
    seed: int = 0
    device: str = "cpu"
    half: bool = True  # bfloat16 convolutions in training


class Trainer:
    """Owns the generator, its averaged copy, the optimiser and the checkpoint."""

    def __init__(self, options: PriorOptions):
        self.o = options
        torch.manual_seed(options.seed)
        self.rng = np.random.default_rng(options.seed)
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.out / "checkpoint.pt"
        self.generator = Generator(HEADS)
        if self.checkpoint.exists():
            if options.start_from:
                raise My3DGenError(
                    f"{self.checkpoint} is there to go on from, so start_from={options.start_from} would do nothing; give "
                    "another --out"
                )
        else:
            start(self.generator, options.start_from, options.seed)
        self.generator.to(options.device)
        self.average = {k: v.detach().clone() for k, v in self.generator.state_dict().items()}
        mapping = list(self.generator.backbone.mapping.parameters())
        rest = [p for n, p in self.generator.named_parameters() if ".mapping." not in n]
        self.optimiser = torch.optim.Adam(
            [{"params": rest, "scale": 1.0}, {"params": mapping, "scale": options.mapping_lr}],
            lr=options.lr,
            betas=(0.9, 0.99),
        )
        self.progress, self.stage, self.began = Elapsed(), 0, 0  # began: the step at which the stage did

    # -- checkpoints

    def save(self) -> None:
        state = {
            "generator": self.generator.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "progress": (*astuple(self.progress), self.stage, self.began),
            "options": asdict(self.o),
        }
        with replacing(self.checkpoint) as file:
            torch.save(state, file)

    def resume(self) -> bool:
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.o.device, weights_only=True)
        self.generator.load_state_dict(state["generator"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        if len(state["progress"]) != 4:
            raise My3DGenError(
                f"{self.checkpoint} is of an earlier version; give another --out, and start_from= its export"
            )
        *progress, self.stage, self.began = state["progress"]
        self.progress = Elapsed(*progress)
        # not the batches of the start once more
        self.rng = np.random.default_rng((self.o.seed, self.progress.step))
        return True

    # -- losses

    def point_loss(self, batch: Batch, planes: torch.Tensor) -> dict[str, torch.Tensor]:
        """Occupancy and colour of points along camera rays, against the known depth. No volume rendering."""
        o, size = self.o, batch.image.shape[-1]
        pixels = pick_pixels(batch, self.rng, o.pixels).to(planes.device)
        origins, directions = make_rays(batch.camera, size)
        directions = directions.gather(1, pixels[..., None].expand(-1, -1, 3))
        depth = batch.depth.flatten(1).gather(1, pixels)
        colour = batch.image.flatten(2).gather(2, pixels[:, None].expand(-1, 3, -1)).transpose(1, 2)
        u = torch.rand(4, *depth.shape, device=depth.device)
        ahead = depth - 0.006 - 0.03 * u[0] ** 2
        wall = batch.part.flatten(1).gather(1, pixels) == WALL
        behind = depth + 0.006 + torch.where(wall, 0.25, 0.03) * u[1] ** 2
        free = HEADS.ray_start + (depth - 0.03 - HEADS.ray_start) * u[2]
        surface = depth + 0.006 * (u[3] - 0.5)
        depths = torch.stack([surface, ahead, behind, free], dim=2)  # [B, P, 4]
        points = origins[:, None] + depths[..., None] * directions[:, :, None]
        out = self.generator.sample(planes, points.reshape(len(planes), -1, 3))
        sigma = out["sigma"].reshape(depths.shape) / o.density_scale
        rgb = out["rgb"][..., :3].reshape(*depths.shape, 3) * 2 - 1
        inside = torch.zeros_like(sigma)
        inside[..., 2] = 1
        shell = torch.tensor([0.0, 1.0, 1.0, 0.7], device=sigma.device)
        occupancy = (F.binary_cross_entropy_with_logits(sigma, inside, reduction="none") * shell).mean()
        error = (rgb[:, :, [0, 1, 2]] - colour[:, :, None]).abs().mean(-1)  # [B, P, 3]
        return {"occupancy": occupancy, "colour": (error * error.new_tensor([1.0, 0.3, 0.5])).mean()}

    def super_loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Final pictures of one view of each person; only super-resolution learns."""
        first = batch.rows(torch.arange(0, len(batch.z), self.o.views))
        with torch.no_grad():
            ws = self.generator.mapping(first.z, None)
            planes = self.generator.planes(ws, noise_mode="none")
            features, _, _ = self.generator.renderer(
                planes, self.generator.decoder, first.camera, HEADS.neural_resolution
            )
        with torch.autocast(torch.device(self.o.device).type, torch.bfloat16, enabled=self.o.half):
            image = self.generator.superresolution(features, ws)
        return self._picture_loss(image.float(), first)

    def render_loss(self, batch: Batch, planes: torch.Tensor) -> dict[str, torch.Tensor]:
        """Pictures through volume rendering and super-resolution, of the first people of a batch.

        The points keep holding the backbone in place: few pictures a step would shake it.
        """
        o = self.o
        rows = torch.arange(o.batch_render)
        first = batch.rows(rows * o.views)  # one view of each
        ws = self.generator.mapping(first.z, None)
        out = self.generator.synthesis(ws, first.camera, planes=planes[rows], noise_mode="none")
        small = F.interpolate(first.image, size=out["image_raw"].shape[-2:], mode="area")
        weight = F.interpolate(attention(first), size=small.shape[-2:], mode="area")
        raw = {"raw": 0.5 * ((out["image_raw"] - small).abs() * weight).mean()}
        # the face's relief by itself; a jump at an outline counts no more than a tenth of the box
        truth, person = (
            F.interpolate(x[:, None].float(), size=small.shape[-2:], mode="bilinear", align_corners=False)
            for x in (first.depth, first.part != WALL)  # at the middle of a rendered pixel, where its ray is
        )
        person = (person == 1).float()
        off = (out["image_depth"] - truth).abs().clamp(max=0.1) * person
        raw["depth"] = o.depth_weight * off.sum() / person.sum().clamp(min=1)
        return raw | self._picture_loss(out["image"], first)

    def _picture_loss(self, image: torch.Tensor, truth: Batch) -> dict[str, torch.Tensor]:
        mask = attention(truth)
        losses = picture_loss(image, truth.image, mask)
        if self.o.perceptual:
            distance = load_perceptual(image.device)
            side = image.shape[-1] // 2  # a window: whole pictures cost four times as much
            y, x = self.rng.integers(side // 4, side * 3 // 4 + 1, 2)
            window = (..., slice(y, y + side), slice(x, x + side))
            losses["perceptual"] = (
                self.o.perceptual * distance(image[window], truth.image[window], mask[window]).mean()
            )
        return losses

    # -- loop

    def run(self) -> None:
        """All stages, resuming where the checkpoint stopped."""
        shards = Shards(self.o.data, often=rarity)
        self.resume()
        minutes = (self.o.minutes_points, self.o.minutes_super, self.o.minutes_joint)
        with (self.out / "log.jsonl").open("a") as log:
            for stage in range(self.stage, len(minutes)):
                if stage > self.stage:
                    self.stage, self.progress.seconds, self.began = stage, 0.0, self.progress.step
                    self.generator.load_state_dict(self.average)  # go on from the averaged weights
                    self.optimiser.state.clear()
                step = partial(self._step, shards)
                train_for(step, minutes[stage], self.progress, self.save, log, stage=stage)

    def _step(self, shards: Shards, share: float) -> dict[str, torch.Tensor]:
        o, stage, done = self.o, self.stage, self.progress.step
        if done % LOG_EVERY == 0:
            shards.refresh()
        set_rate(
            self.optimiser,
            (o.lr, o.lr_super, o.lr_joint)[stage] * decayed(share, done - self.began, warm_up=50),
        )
        batch = shards.batch(self.rng, (o.batch, o.batch_super, o.batch_joint)[stage], o.views)
        losses = self._losses(stage, batch.to(o.device))
        descend(self.optimiser, sum(losses.values()), clip=5.0)
        averaged(self.average, self.generator, o.ema, done + 1)
        return losses

    def _losses(self, stage: int, batch: Batch) -> dict[str, torch.Tensor]:
        if stage == 1:
            return self.super_loss(batch)
        with torch.autocast(torch.device(self.o.device).type, torch.bfloat16, enabled=self.o.half):
            planes = self.generator.planes(
                self.generator.mapping(batch.z[:: self.o.views], None), noise_mode="none"
            )
        planes = planes.float()
        losses = self.point_loss(batch, planes)
        return losses | self.render_loss(batch, planes) if stage == 2 else losses


def start(generator: Generator, start_from: str = "", seed: int = 0) -> None:
    """A start from which the factors of z are learned several times sooner than from noise.

    w begins as the factors themselves, each with its negative, so that Adam's rates a coordinate act on single
    factors, and as what they look like (`mapping.teach`); the learned constant begins smooth, since noise in it would
    stay in the planes as a weave. With `start_from`, w begins as that prior's w instead, and the rest as its weights; a
    prior of the same sizes is simply trained on.
    """
    mapping = generator.backbone.mapping
    if start_from:
        before = load_prior(start_from, device="cpu").generator
        if before.config == generator.config:
            generator.load_state_dict(before.state_dict())
            return
        teach(mapping, lambda z: before.mapping(z, None)[:, 0], pieces, seed=seed)
        take_over(generator, before)
        return
    teach(mapping, seed=seed)
    block = getattr(generator.backbone.synthesis, f"b{HEADS.base_resolution}")
    coarse = torch.randn(1, len(block.const), 8, 8)
    smooth = F.interpolate(coarse, size=block.const.shape[1:], mode="bicubic", align_corners=False)[0]
    with torch.no_grad():
        block.const.copy_(smooth / smooth.std())
        for name, p in generator.named_parameters():
            if name.endswith("torgb.weight"):  # small planes, so that early densities are small
                p.mul_(0.3)


@torch.no_grad()
def take_over(generator: Generator, before: Generator) -> None:
    """Everything but the mapping from a generator whose w may be shorter and whose layers may be narrower.

    The new coordinates and channels do nothing yet: channels see what the others see, but nothing reads them.
    """
    known = before.state_dict()
    for name, value in generator.state_dict().items():
        if ".mapping." in name:
            continue
        old = known[name]
        if name.endswith(".weight"):
            value[:, old.shape[1] :] = 0
        # an affine layer, and torgb, divides by the root of its inputs, of which there are more now
        divides = name.endswith(("affine.weight", "torgb.weight"))
        gain = (value.shape[1] / old.shape[1]) ** 0.5 if divides else 1.0
        value[tuple(slice(n) for n in old.shape)] = old * gain


def picture_loss(image: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Differences of pixels and of their gradients, [B, 3, H, W] each, the mask [B, 1, H, W]."""
    return {"image": 0.5 * ((image - truth).abs() * mask).mean(), "edges": edge_loss(image, truth, mask)}


def edge_loss(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Difference of horizontal and vertical gradients: keeps strands, lids and lips sharp. [B, 3, H, W]."""
    dx = ((a[..., 1:] - a[..., :-1]) - (b[..., 1:] - b[..., :-1])).abs() * mask[..., 1:]
    dy = ((a[..., 1:, :] - a[..., :-1, :]) - (b[..., 1:, :] - b[..., :-1, :])).abs() * mask[..., 1:, :]
    return dx.mean() + dy.mean()


def export(checkpoint: Path, out: str) -> dict[str, int]:
    """Write the averaged weights as a prior file in fp16, with w_avg measured anew. Returns steps and bytes."""
    from my3dgen.priors.files import save_prior

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    generator = Generator(HEADS)
    generator.load_state_dict(state["average"])
    generator.eval().requires_grad_(False)
    z = torch.randn(10_000, HEADS.z_dim, generator=torch.Generator().manual_seed(123))
    generator.backbone.mapping.w_avg.copy_(generator.mapping(z, None)[:, 0].mean(0))
    save_prior(out, generator, "heads", dtype="float16")
    return {"step": int(state["progress"][0]), "bytes": Path(out).stat().st_size}
