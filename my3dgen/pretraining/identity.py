"""Training of the two identity encoders on synthetic people: many photos a person, margin loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from my3dgen.cameras import camera as orbit_camera
from my3dgen.faces.align import Placement, place
from my3dgen.models.identity import DIMENSIONS, INPUT, WINDOW, IdentityNetwork
from my3dgen.pretraining import facekit, people, render
from my3dgen.pretraining.dataset import random_camera
from my3dgen.pretraining.loop import Elapsed, decayed, descend, set_rate, train_for
from my3dgen.pretraining.shading import WALL
from my3dgen.priors.files import write_safetensors
from my3dgen.writing import replacing

STORED = 112  # pixels of a stored window; wider than the network's, for jitter
MARGIN = 0.08  # how much wider on each side, in crop widths


@dataclass(frozen=True)
class IdentityOptions:
    """Training of one encoder."""

    purpose: str = "loss"  # "loss" or "metrics"
    data: str = "data/identity_loss.npz"  # from `write_people`
    out: str = "assets"  # identity_<purpose>.safetensors goes here
    minutes: float = 12.0
    batch: int = 64
    lr: float = 2e-3
    scale: float = 24.0  # sharpness of the margin loss
    margin: float = 0.3  # CosFace margin on the cosine of the true person
    start: str = ""  # weights to go on from; the people are learned anew
    seed: int = 0


def standard_window(
    image: np.ndarray, landmarks: np.ndarray, pixels: int = STORED, margin: float = MARGIN
) -> np.ndarray:
    """Cut the encoder's window, as it lies in the EG3D crop that these landmarks give, out of a drawn view."""
    crop = place(landmarks, 1)  # positions in crop widths
    corner, side = np.array(WINDOW[:2]) - margin, WINDOW[2] + 2 * margin
    zoom = pixels / side
    matrix = Placement(crop.scale * zoom, tuple((np.array(crop.offset) - corner) * zoom)).matrix()
    return cv2.warpAffine(
        image, matrix, (pixels, pixels), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
    )


def write_people(path: str, seed: int, count: int, photos: int = 6) -> None:
    """Windows of `count` people in `photos` photos each, drawn on different occasions.

    Who is trained on takes glasses off and on, and every fourth person shares skin, hair, brows, beard, age and glasses
    with the one before, so that the shape of the face has to tell them apart. The last twelfth are for testing only:
    nobody resembles anybody on purpose, glasses stay, and two pictures more of each test the encoder's judgement.

    Holds image [N, P, 112, 112, 3] uint8 and wall [N, P, 112, 112] bool; for the last H people also alike
    [H, 112, 112, 3] (somebody else with the hair, glasses, expression, clothes, light, background and camera of this
    person's first photo) and glasses [H, 112, 112, 3] (this person once more, glasses put on or taken off).
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    kit = facekit.load()
    rng = np.random.default_rng(seed)
    front = np.nonzero(
        (kit.mean[: kit.groups["face"][1], 2] > 6) & (np.abs(kit.mean[: kit.groups["face"][1], 1]) < 7)
    )[0]
    held = _held(count)
    out = {
        "image": np.empty((count, photos, STORED, STORED, 3), np.uint8),
        "wall": np.empty((count, photos, STORED, STORED), bool),
        "alike": np.empty((held, STORED, STORED, 3), np.uint8),
        "glasses": np.empty((held, STORED, STORED, 3), np.uint8),
    }

    def picture(z, marks, camera):
        person = people.with_marks(people.decode(people.normalise(z)), marks=marks)
        view = render.draw(kit, person, render.build(kit, person), camera, 208, 1)
        points = view.landmarks + rng.normal(0, 0.7, view.landmarks.shape)
        wall = standard_window((view.part == WALL).astype(np.uint8), points) > 0
        return standard_window(view.image, points), wall

    before = None
    for i in range(count):
        testing = i - (count - held)
        z = people.sample(rng)
        if testing < 0 and i % 4 == 1:
            for name in ("skin", "hair", "brows", "beard", "age", "glasses"):
                z[people.SLICES[name]] = before[people.SLICES[name]]
        before = z
        marks = people.random_marks(rng, kit.mean, front, int(rng.integers(0, 4)))
        for j in range(photos):
            photo = people.another_photo(z, rng)
            if testing < 0 and rng.random() < 0.4:
                photo[people.SLICES["glasses"]] = rng.standard_normal(people.LAYOUT["glasses"])
            camera = _camera(rng) if testing >= 0 else random_camera(rng, 1.1)
            out["image"][i, j], out["wall"][i, j] = picture(photo, marks, camera)
            if testing >= 0 and j == 0:
                other = photo.copy()
                for name in ("shape", "skin", "lips", "brows", "eyes", "beard"):
                    other[people.SLICES[name]] = rng.standard_normal(people.LAYOUT[name])
                other_marks = people.random_marks(rng, kit.mean, front, int(rng.integers(0, 4)))
                out["alike"][testing], _ = picture(other, other_marks, camera)
                changed = people.another_photo(z, rng)
                worn = people.decode(changed).glasses > 0
                changed[people.SLICES["glasses"]][0] = -1.0 if worn else 2.0
                out["glasses"][testing], _ = picture(changed, marks, _camera(rng))
    with replacing(path) as file:
        np.savez(file, **out)


def _held(count: int) -> int:
    """How many of the people, the last ones, are never trained on."""
    return max(count // 12, 2)


def _camera(rng: np.random.Generator) -> np.ndarray:
    """A camera within half a radian of the front, as the verification figures are measured."""
    return np.asarray(
        orbit_camera(rng.uniform(-0.5, 0.5), rng.normal(0, 0.12), rng.normal(0, 0.04)), np.float32
    )


def augment(images: torch.Tensor, walls: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Other backgrounds, jittered crops, colour casts, exposure, blur, noise: [B, 3, 112, 112] -> [B, 3, 64, 64]."""

    def uniform(low, high, *shape):
        return torch.rand(shape, generator=rng) * (high - low) + low

    n = len(images)
    theta = torch.zeros(n, 2, 3)
    core = 1 - 2 * MARGIN / (WINDOW[2] + 2 * MARGIN)
    size = core * uniform(0.94, 1.08, n)
    angle = uniform(-0.06, 0.06, n)
    theta[:, 0, 0], theta[:, 0, 1] = size * angle.cos(), -size * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = size * angle.sin(), size * angle.cos()
    theta[:, :, 2] = uniform(-0.06, 0.06, n, 2)
    x = F.grid_sample(  # first of all: everything after it has a third of the pixels
        torch.cat([images, walls[:, None].to(images)], 1),
        F.affine_grid(theta, (n, 4, INPUT, INPUT), align_corners=False),
        align_corners=False,
        padding_mode="reflection",
    )
    x, wall = x[:, :3], x[:, 3:]
    flat = uniform(-1, 1, n, 3, 1, 1).expand_as(x)
    other = F.interpolate(
        F.avg_pool2d(x[torch.randperm(n, generator=rng)].flip(-1), 4), size=(INPUT, INPUT), mode="bilinear"
    )
    backdrop = torch.where(uniform(0, 1, n, 1, 1, 1) < 0.5, flat, other)
    x = x + (backdrop - x) * wall * (uniform(0, 1, n, 1, 1, 1) < 0.6)
    light = (x + 1) / 2
    light = light.clamp(1e-3, 1) ** torch.exp(uniform(-0.35, 0.35, n, 1, 1, 1))
    light = light * torch.exp(uniform(-0.25, 0.25, n, 1, 1, 1) + uniform(-0.08, 0.08, n, 3, 1, 1))
    grey = light.mean(1, keepdim=True)
    light = grey + (light - grey) * uniform(0.6, 1.25, n, 1, 1, 1)
    x = light.clamp(0, 1) * 2 - 1
    small = F.interpolate(
        F.interpolate(x, scale_factor=0.5, mode="area"), size=(INPUT, INPUT), mode="bilinear"
    )
    blend = uniform(0, 1, n, 1, 1, 1) * (uniform(0, 1, n, 1, 1, 1) < 0.5)
    x = x * (1 - blend) + small * blend
    return x + torch.randn(x.shape, generator=rng) * uniform(0, 0.06, n, 1, 1, 1)


def train(o: IdentityOptions) -> dict[str, float]:
    """Train one encoder for `minutes` and write it. Returns figures on people it never saw."""
    torch.manual_seed(o.seed)
    rng = torch.Generator().manual_seed(o.seed)
    data = np.load(o.data)
    images, walls = torch.from_numpy(data["image"]), torch.from_numpy(data["wall"])
    seen = len(images) - _held(len(images))
    network = IdentityNetwork(o.purpose)
    if o.start:
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in load_file(o.start).items()}
        )
    classes = nn.Parameter(torch.randn(seen, DIMENSIONS) * 0.05)
    optimiser = torch.optim.AdamW([*network.parameters(), classes], lr=o.lr, weight_decay=0.02)
    progress = Elapsed()

    def step(share: float) -> dict[str, torch.Tensor]:
        set_rate(optimiser, o.lr * decayed(share, progress.step, warm_up=100, floor=0.01))
        who = torch.randint(0, seen, (o.batch,), generator=rng)
        which = torch.randint(0, images.shape[1], (o.batch,), generator=rng)
        x = augment(images[who, which].permute(0, 3, 1, 2).float() / 127.5 - 1, walls[who, which], rng)
        with torch.autocast("cpu", torch.bfloat16):
            e = network(x.to(memory_format=torch.channels_last))
        cosine = F.normalize(e.float(), dim=1) @ F.normalize(classes, dim=1).T
        margin = o.margin * min(1, 2 * share)  # slowly, or nothing is learned at first
        loss = F.cross_entropy(o.scale * (cosine - margin * F.one_hot(who, seen)), who)
        descend(optimiser, loss)
        return {"loss": loss}

    train_for(step, o.minutes, progress)
    network.eval()
    sharpen(network, images[:seen], walls[:seen], rng)
    figures = evaluate(network, images[seen:], *(torch.from_numpy(data[n]) for n in ("alike", "glasses"))) | {
        "steps": progress.step
    }
    path = Path(o.out) / f"identity_{o.purpose}.safetensors"
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    write_safetensors(path, state, {})
    return figures


@torch.no_grad()
def sharpen(
    network: IdentityNetwork,
    images: torch.Tensor,
    walls: torch.Tensor,
    rng: torch.Generator,
    floor: float = 0.1,
) -> None:
    """Let the last layer keep what tells people apart and drop what varies from photo to photo, in place.

    A Wiener filter S_b (S_b + S_w)^-1 from the scatter between and within the people it was trained on, multiplied into the
    head: the same network, with less of the light and the pose in its answer.

    Args:
        images: [N, P, 112, 112, 3] uint8 and walls: [N, P, 112, 112] of the training people.
        floor: added to the diagonal, in mean variances; few photos a person estimate small variances badly.
    """
    n, p = images.shape[:2]
    rows = []
    for some, wall in zip(images.split(16), walls.split(16), strict=True):
        x = some.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
        rows.append(network.features(augment(x, wall.flatten(0, 1), rng)))
    e = F.normalize(torch.cat(rows).double(), dim=1).unflatten(0, (n, p))
    centre = e.mean(1)
    apart = (e - centre[:, None]).flatten(0, 1)
    within = apart.T @ apart / (n * (p - 1))
    between = (centre - centre.mean(0)).T @ (centre - centre.mean(0)) / n - within / p
    total = between + within
    total += floor * total.trace() / len(total) * torch.eye(len(total), dtype=total.dtype)
    keep = torch.linalg.solve(total, between).T  # [512, 512]
    norm, head = network.head_norm, network.head
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).double()
    offset = norm.bias.double() - scale * norm.running_mean.double()
    head.weight.copy_(keep @ (scale[:, None] * head.weight.double()))
    norm.bias.copy_(keep @ offset)
    norm.weight.fill_(1)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


@torch.no_grad()
def evaluate(
    network: IdentityNetwork, images: torch.Tensor, alike: torch.Tensor, glasses: torch.Tensor
) -> dict[str, float]:
    """Verification on people the encoder never saw, from what `write_people` kept for testing.

    Args:
        images: [N, P, 112, 112, 3] photos; alike, glasses: [N, 112, 112, 3], the pictures that mislead.

    Returns:
        mean cosine of the same person and of others; `auc`, how often the first exceeds the second; `alike`, mean cosine
        with the look-alike of the same occasion, and `auc_alike` against it; `glasses`, mean cosine over a change of glasses.
    """

    def embed(pictures):
        core = round(STORED * MARGIN / (WINDOW[2] + 2 * MARGIN))
        x = pictures.permute(0, 3, 1, 2).float()[..., core : STORED - core, core : STORED - core] / 127.5 - 1
        x = F.interpolate(x, size=(INPUT, INPUT), mode="bilinear", antialias=True)
        return torch.cat([network(part) for part in x.split(128)])

    n, p = images.shape[:2]
    e, e_alike, e_glasses = embed(images.flatten(0, 1)), embed(alike), embed(glasses)
    cosine = e @ e.T
    who = torch.arange(n).repeat_interleave(p)
    same = cosine[(who[:, None] == who[None]) & ~torch.eye(n * p, dtype=torch.bool)]
    other = cosine[who[:, None] != who[None]]
    hard = (e[::p] * e_alike).sum(1)
    changed = (e.unflatten(0, (n, p)) * e_glasses[:, None]).sum(-1)

    def above(a, b):
        return float((torch.searchsorted(b.sort().values, a).float() / len(b)).mean())

    return {
        "auc": above(same, other),
        "same": float(same.mean()),
        "other": float(other.mean()),
        "alike": float(hard.mean()),
        "auc_alike": above(same, hard),
        "glasses": float(changed.mean()),
        "people": n,
    }
