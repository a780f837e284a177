"""The prior's last stage: super-resolution alone, against a critic that tells drawn pictures from generated ones.

Losses a pixel make the average of everything that is possible, and the average of strands, pores and wrinkles is smooth. A
critic of small windows (PatchGAN, Isola et al. 2017; matching of its features, Wang et al. 2018) asks for what is typical
instead. Everything before super-resolution stays as it is, so rendered features are computed once and kept on disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from my3dgen.models.eg3d.config import HEADS
from my3dgen.models.perceptual import load_perceptual
from my3dgen.pretraining.loop import Elapsed, averaged, decayed, descend, set_rate, train_for
from my3dgen.pretraining.people_data import Shards, attention
from my3dgen.pretraining.prior import picture_loss
from my3dgen.priors import load_prior
from my3dgen.priors.files import save_prior, write_safetensors
from my3dgen.writing import replacing

MARGIN = 4  # rendered pixels around a window: convolutions must not see its edges as edges


@dataclass(frozen=True)
class SharpenOptions:
    """How long, how fast, and how much of each loss."""

    data: str = "data/train"  # folder of rendered shards
    prior: str = "runs/prior.safetensors"  # file to sharpen, as `export-prior` wrote it
    out: str = "assets/heads.safetensors"  # file to write
    run: str = "runs/sharpen"  # rendered features, checkpoint and log
    minutes: float = 45.0  # of training; rendering the features comes before
    pictures: int = 8000  # views to train on
    batch: int = 6  # windows a step
    window: int = 32  # rendered pixels along a window's side; the picture has four times as many
    lr: float = 0.002  # Adam, super-resolution; decays as a cosine to a fiftieth
    lr_critic: float = 0.002  # Adam, critic
    adversarial: float = 0.1  # weight of the critic's verdict
    matching: float = 1.0  # of the distance of the critic's features
    perceptual: float = 0.3  # of the perceptual distance
    edges: float = 0.3  # of the difference of gradients: little, as it is least for a smooth picture
    ema: float = 0.999  # decay of the averaged weights, which are what is saved
    seed: int = 0


class Critic(nn.Module):
    """A verdict on every patch of 20 pixels of a picture, which is seen beside its low-resolution rendering."""

    def __init__(self, width: int = 32):
        super().__init__()
        sizes = (
            (6, width, 3, 1),
            (width, 2 * width, 4, 2),
            (2 * width, 4 * width, 4, 2),
            (4 * width, 4 * width, 3, 1),
        )
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(i, o, k, s, 1)) for i, o, k, s in sizes)
        self.verdict = spectral_norm(nn.Conv2d(4 * width, 1, 1))

    def forward(self, image: Tensor, raw: Tensor) -> list[Tensor]:
        """image [B, 3, S, S], raw [B, 3, R, R] -> features of each layer, and last the verdict [B, 1, S / 4, S / 4]."""
        raw = F.interpolate(raw, size=image.shape[-2:], mode="bilinear", align_corners=False)
        x, out = torch.cat([image, raw], 1), []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            out.append(x)
        return [*out, self.verdict(x)]


@dataclass
class Windows:
    """A window of some pictures: what is known of it, and how it was drawn."""

    features: Tensor  # [B, F, h, w] rendered features, with a margin
    ws: Tensor  # [B, 1, w_dim]
    inner: tuple  # index of the window in what super-resolution makes of `features`
    raw: Tensor  # [B, 3, R, R] the rendering itself, without the margin
    image: Tensor  # [B, 3, S, S] as drawn, in [-1, 1]
    weight: Tensor  # [B, 1, S, S] attention


class Sharpener:
    """Owns super-resolution, its averaged copy, the critic, both optimisers and the checkpoint."""

    def __init__(self, options: SharpenOptions):
        self.o = options
        torch.manual_seed(options.seed)
        self.prior = load_prior(options.prior, device="cpu")
        self.shards = Shards(options.data)
        self.key = self._key()
        self.folder = Path(options.run)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.folder / f"{self.key}.pt"
        self.net = self.prior.generator.superresolution.requires_grad_(True)
        self.critic = Critic()
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=options.lr, betas=(0.5, 0.99))
        self.judge = torch.optim.Adam(self.critic.parameters(), lr=options.lr_critic, betas=(0.5, 0.99))
        self.progress = Elapsed()
        self.rng = np.random.default_rng(options.seed)
        self.kept = ("net", "critic", "optimiser", "judge")

    def _key(self) -> str:
        """A name for the prior, the people and the pictures chosen of them: what checkpoints and features belong to."""
        found = hashlib.sha256(f"{self.prior.sha256} {self.o.pictures} {self.o.seed}".encode())
        for shard in self.shards.data:
            found.update(shard["z"].tobytes() + shard["camera"].tobytes())
        return found.hexdigest()[:16]

    def save(self) -> None:
        state = {name: getattr(self, name).state_dict() for name in self.kept}
        with replacing(self.checkpoint) as file:
            torch.save(state | {"average": self.average, "progress": astuple(self.progress)}, file)

    def resume(self) -> None:
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            for name in self.kept:
                getattr(self, name).load_state_dict(state[name])
            self.average, self.progress = state["average"], Elapsed(*state["progress"])
            # not the windows of the start once more
            self.rng = np.random.default_rng((self.o.seed, self.progress.step))

    # -- data

    @torch.no_grad()
    def features(self) -> dict[str, Tensor]:
        """What super-resolution is given for each picture, and where the picture is in the shards; from disk when there.

        Returns:
            "features" [N, F, R, R] fp16, "ws" [N, w_dim], "rows" [N, 3] (shard, person, view).
        """
        path, data = self.folder / f"{self.key}.safetensors", self.shards.data
        if path.exists():
            return load_file(path)
        rows = [
            (s, i, v)
            for s, d in enumerate(data)
            for i in range(len(d["z"]))
            for v in range(d["camera"].shape[1])
        ]
        chosen = np.random.default_rng(self.o.seed).permutation(len(rows))[: self.o.pictures]
        rows = [rows[k] for k in chosen]
        generator, features, latents = self.prior.generator, [], []
        for s, i, v in rows:
            shard = data[s]
            ws = generator.mapping(torch.from_numpy(shard["z"][i : i + 1]), None)
            planes = generator.planes(ws, noise_mode="none")
            camera = torch.from_numpy(shard["camera"][i, v : v + 1])
            out, _, _ = generator.renderer(planes, generator.decoder, camera, HEADS.neural_resolution)
            features.append(out.half())
            latents.append(ws[:, -1])
        kept = {"features": torch.cat(features), "ws": torch.cat(latents), "rows": torch.tensor(rows)}
        write_safetensors(path, kept, {})
        return kept

    def windows(self, kept: dict[str, Tensor]) -> Windows:
        """The same window of a few pictures."""
        o, up = self.o, HEADS.output_resolution // HEADS.neural_resolution
        index = torch.from_numpy(self.rng.integers(len(kept["rows"]), size=o.batch))
        features = kept["features"][index].float()
        truth = self.shards.rows([(self.shards.data[s], i, v) for s, i, v in kept["rows"][index].tolist()])
        at = self.rng.integers(HEADS.neural_resolution - o.window + 1, size=2)
        first = np.maximum(at - MARGIN, 0)
        wide = (..., *map(slice, first, at + o.window + MARGIN))
        large = (..., *map(slice, at * up, (at + o.window) * up))
        return Windows(
            features=features[wide],
            ws=kept["ws"][index][:, None],
            inner=(..., *map(slice, (at - first) * up, (at - first + o.window) * up)),
            raw=features[(slice(None), slice(3), *map(slice, at, at + o.window))],
            image=truth.image[large],
            weight=attention(truth)[large],
        )

    # -- training

    def run(self) -> dict[str, float]:
        """Train for `minutes`, resuming where the checkpoint stopped, and write the prior. Returns the last mean losses."""
        self.resume()
        kept = self.features()
        with (self.folder / "log.jsonl").open("a") as log:
            means = train_for(partial(self._step, kept), self.o.minutes, self.progress, self.save, log)
        self.net.load_state_dict(self.average)
        save_prior(self.o.out, self.prior.generator, "heads", dtype="float16")
        return {"steps": self.progress.step, **means}

    def _step(self, kept: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        w, done = self.windows(kept), self.progress.step
        for optimiser, rate in ((self.optimiser, self.o.lr), (self.judge, self.o.lr_critic)):
            set_rate(optimiser, rate * decayed(share, done, warm_up=100))
        with torch.autocast("cpu", torch.bfloat16):
            image = self.net.blocks(w.features, w.ws)[w.inner]
            real, fake = self.critic(w.image, w.raw), self.critic(image.detach(), w.raw)
            critic = (F.relu(1 - real[-1].float()) + F.relu(1 + fake[-1].float())).mean()
        descend(self.judge, critic, clip=5.0)
        with torch.autocast("cpu", torch.bfloat16):
            self.critic.requires_grad_(False)
            real, fake = self.critic(w.image, w.raw), self.critic(image, w.raw)
            self.critic.requires_grad_(True)
        losses = picture_loss(image.float(), w.image, w.weight)
        losses["edges"] = self.o.edges * losses["edges"]
        losses["perceptual"] = self.o.perceptual * load_perceptual()(image.float(), w.image, w.weight).mean()
        losses["matching"] = self.o.matching * sum(
            (a.float() - b.float()).abs().mean() for a, b in zip(fake[:-1], real[:-1], strict=True)
        )
        losses["adversarial"] = -self.o.adversarial * fake[-1].float().mean()
        descend(self.optimiser, sum(losses.values()), clip=5.0)
        averaged(self.average, self.net, self.o.ema, done + 1)
        return losses | {"critic": critic}
