"""Where the time goes: milliseconds of each part of a generator."""

from __future__ import annotations

import time

import torch

from my3dgen.cameras import camera
from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d.config import CATS, FFHQ, HEADS
from my3dgen.models.eg3d.generator import Generator
from my3dgen.personal.timing import peak_rss_mb
from my3dgen.priors.catalogue import device_of


def bench(name: str | None, device: str | None, random_weights: bool, repeat: int) -> dict:
    """Median milliseconds of one picture, batch 1, by part of the generator."""
    if random_weights:
        name = name or "heads"
        generator = random_generator(name).to(device_of(device)).eval().requires_grad_(False)
    else:
        from my3dgen.priors import load_prior

        prior = load_prior(name, device=device)
        name, generator = prior.name, prior.generator
    config, where = generator.config, next(generator.parameters()).device
    z = torch.randn(1, config.z_dim, device=where)
    c = camera(0, 0).to(where)[None]
    ws = generator.mapping(z, c)
    planes = generator.planes(ws)
    features, _, _ = generator.renderer(planes, generator.decoder, c, config.neural_resolution)

    def volume():
        return generator.renderer(planes, generator.decoder, c, config.neural_resolution)

    def both():
        w = ws.clone().requires_grad_(True)
        out = generator.synthesis(w, c)
        (out["image"].square().mean() + out["image_raw"].square().mean()).backward()

    parts = {
        "mapping": lambda: generator.mapping(z, c),
        "planes": lambda: generator.planes(ws),
        "volume": volume,
        "superresolution": lambda: generator.superresolution(features, ws),
        "forward": lambda: generator.synthesis(ws, c),
    }
    with torch.no_grad():
        milliseconds = {part: _median(run, repeat, where) for part, run in parts.items()}
    milliseconds["forward_backward"] = _median(both, repeat, where)
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "prior": name,
        "milliseconds": milliseconds,
        "peak_rss_mb": peak_rss_mb(),
    }


def random_generator(name: str) -> Generator:
    """A generator of a published prior's sizes with random weights, on the CPU.

    Raises:
        My3DGenError: for a name whose sizes are not known.
    """
    presets = {"heads": HEADS, "ffhq": FFHQ, "cats": CATS}
    if name not in presets:
        raise My3DGenError(f"--random-weights needs one of {', '.join(presets)}, got {name!r}")
    return Generator(presets[name])


def _median(run, repeat: int, device: torch.device) -> float:
    times = []
    for i in range(repeat + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i:  # the first run warms up
            times.append(1000 * (time.perf_counter() - start))
    return round(sorted(times)[len(times) // 2], 2)
