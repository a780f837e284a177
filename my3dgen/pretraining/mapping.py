"""What w starts as: the factors of z and, beside them, what a person decoded from z looks like.

A face is anything but linear in z: a beard grows only beyond some value, only on short hair, only without make-up;
hair is dark or light by the tone of the skin. A network that must find this out while it learns to draw shows everybody half a
beard instead. So the mapping is taught it first, from z alone, within a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from my3dgen.models.eg3d.stylegan2 import SQRT2, MappingNetwork, activated, normalise
from my3dgen.pretraining import people
from my3dgen.pretraining.loop import decayed, descend, set_rate

# scales along which outlines move or something grows, in pieces: within one a picture may fade, but not farther
PIECES = {
    "hair_length": (0.0, 0.08, 0.2, 0.35, 0.5, 0.65, 0.85),
    "hair_opening": (0.85, 1.0, 1.15, 1.3, 1.45),  # radians; only of long hair
    "fringe": (0.0, 0.3, 0.6, 0.9),
    "hairline": (-0.9, -0.3, 0.3, 0.9),  # cm
    "afro": (0.0, 1.0, 2.2, 3.6),  # cm
    "jawOpen": (0.0, 0.1, 0.25, 0.4, 0.55),
    "beard": (0.0, 0.2, 0.5, 0.9),
    "age": (0.4, 0.6, 0.8, 0.95),
    "glasses_size": (0.85, 0.95, 1.05, 1.15),  # only where there are any
}
LEFT_OUT = ("shape", "dye", "marks")  # what z holds already, or does not hold
LIFT = 4.0  # z + LIFT is above zero for practically everybody, where the leaky ReLU is linear
KINKS = (0.4, 1.1, -0.5)  # where single factors are bent
RATE = 0.2  # of Adam; weights are held a hundred times larger (lr_mul 0.01)


def looks(person: people.Person) -> np.ndarray:
    """Everything that is seen of a decoded person, in a row: colours, lengths, expression, light; float32."""
    rows = []
    for field in fields(person):
        value = getattr(person, field.name)
        if field.name in LEFT_OUT:
            continue
        if field.name == "expression":
            value = list(value.values())
        elif field.name == "light":
            value = np.concatenate([value.sh[:4].ravel(), value.key, value.key_colour])
        rows.append(np.ravel(np.asarray(value, np.float32)))
    return np.concatenate(rows)


def pieces(person: people.Person) -> np.ndarray:
    """How far along each of the `PIECES` a person is, 0 to 1, in a row; float32.

    A generator blends what it knows of two ends of a scale, and half of each is no hair of middle length. Short pieces of
    the scale, each with a coordinate of its own, leave little to blend.
    """
    there = {
        "hair_opening": np.clip((person.hair_length - 0.03) / 0.04, 0, 1),
        "glasses_size": float(person.glasses > 0),
    }
    rows = []
    for name, ends in PIECES.items():
        value = person.expression[name] if name in person.expression else getattr(person, name)
        begin, end = np.array(ends[:-1]), np.array(ends[1:])
        rows.append(np.clip((value - begin) / (end - begin), 0, 1) * there.get(name, 1.0))
    return np.concatenate(rows).astype(np.float32)


def looks_in_pieces(person: people.Person) -> np.ndarray:
    """`looks` and `pieces` in one row."""
    return np.concatenate([looks(person), pieces(person)])


# how many numbers `looks_in_pieces` gives
LOOKS = len(looks_in_pieces(people.decode(np.zeros(people.Z_DIM, np.float32))))


def factors(z: Tensor) -> Tensor:
    """z [N, Z_DIM] and its negative, as one leaky ReLU passes them on: [N, 2 Z_DIM]."""
    return activated(torch.cat([z, -z], 1))


def teach(
    mapping: MappingNetwork,
    plain: Callable[[Tensor], Tensor] = factors,
    seen_of: Callable[[people.Person], np.ndarray] = looks_in_pieces,
    people_count: int = 40_000,
    steps: int = 5000,
    seed: int = 0,
) -> dict[str, float]:
    """Set the weights of a mapping of three layers or more so that w = [plain(z), seen_of(person), zeros].

    Args:
        plain: z [N, Z_DIM] -> the first coordinates of w.
        seen_of: a decoded person -> the next ones, before they are scaled.

    Returns:
        The share of the variance of both parts that the mapping gives, on people it was not taught with.
    """
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(np.stack([people.sample(rng) for _ in range(people_count)]))
    seen = torch.from_numpy(np.stack([seen_of(people.decode(row)) for row in z.numpy()]))
    low, spread = seen.min(0).values, seen.std(0).clamp(min=1e-6)
    with torch.no_grad():
        first = plain(z)
        # looks lie above zero, with a spread like that of the factors: where w's leaky ReLU is linear
        goal = torch.cat([first, (seen - low) / spread * first.std() + 0.1], 1)
    width, held = goal.shape[1], people_count // 10
    _pass_on(mapping, z[held:], goal[held:], seed)
    optimiser = torch.optim.Adam(mapping.parameters(), lr=RATE)
    shuffled = torch.Generator().manual_seed(seed)
    for step in range(steps):
        set_rate(optimiser, RATE * decayed(step / steps, step, warm_up=1, floor=0.0))
        rows = torch.randint(held, people_count, (512,), generator=shuffled)
        loss = (mapping(z[rows], None)[:, 0, :width] - goal[rows]).square().mean()
        descend(optimiser, loss)
    with torch.no_grad():
        off = (mapping(z[:held], None)[:, 0, :width] - goal[:held]).square().mean(0)
        share = 1 - off / goal[:held].var(0).clamp(min=1e-6)
    return {"plain": float(share[: first.shape[1]].mean()), "looks": float(share[first.shape[1] :].mean())}


@torch.no_grad()
def _pass_on(mapping: MappingNetwork, z: Tensor, goal: Tensor, seed: int) -> None:
    """Start: the first units of every hidden layer hand z on, unbent, the others are random; the last layer is fitted."""
    random, z_dim = torch.Generator().manual_seed(seed), z.shape[1]
    layers = [getattr(mapping, f"fc{i}") for i in range(mapping.num_layers)]
    x = normalise(z)
    for i, layer in enumerate(layers[:-1]):
        centred = x - x.mean(0)
        weight = torch.randn(layer.weight.shape, generator=random) / centred.square().sum(1).mean().sqrt()
        bias = 0.5 * torch.randn(len(weight), generator=random) - weight @ x.mean(0)
        weight[:z_dim] = 0
        weight[range(z_dim), range(z_dim)] = 1.0 if i == 0 else 1 / SQRT2
        bias[:z_dim] = LIFT if i == 0 else 0.0
        if i == 0:  # the others bend single factors: most of what is seen begins or ends at some value of one
            kinks = [(k, at) for at in KINKS for k in range(people.SLICES["shape"].stop, z_dim)]
            for row, (k, at) in enumerate(kinks[: len(weight) - z_dim], start=z_dim):
                weight[row], bias[row] = F.one_hot(torch.tensor(k), z_dim), -at
        layer.weight.copy_(weight / layer.weight_gain)
        layer.bias.copy_(bias / layer.bias_gain)
        x = activated(layer(x))
    before = torch.where(goal > 0, goal, goal / 0.2) / SQRT2  # what the leaky ReLU turns into the goal
    centred, mean = (x - x.mean(0)).double(), before.mean(0).double()
    gram = centred.T @ centred + 1e-4 * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, centred.T @ (before - mean)).T
    layers[-1].weight.zero_()
    layers[-1].bias.zero_()
    layers[-1].weight[: goal.shape[1]] = (weight / layers[-1].weight_gain).float()
    layers[-1].bias[: goal.shape[1]] = ((mean - weight @ x.mean(0).double()) / layers[-1].bias_gain).float()
