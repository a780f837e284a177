"""How long a person takes: seconds and memory of projecting and tuning photos, measured on this machine."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from my3dgen import cameras
from my3dgen.errors import My3DGenError
from my3dgen.faces import Face
from my3dgen.faces.pose import mean_landmarks
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.project import ProjectOptions, project
from my3dgen.personal.tune import TuneOptions, personalize
from my3dgen.priors.prior import Prior
from my3dgen.progress import ProgressCallback


def time_person(
    prior: Prior, photos: int = 10, steps: int | None = None, progress: ProgressCallback | None = None
) -> dict:
    """Project and tune photos of noise, which take as long as any others.

    Args:
        photos: how many.
        steps: of each stage; None: all of the prior's own on a GPU, one on a CPU. Where they are fewer than the
            prior's own, a full run is extrapolated from the seconds a step.

    Returns:
        JSON-ready: "steps", "seconds", "seconds_a_step" and "full_steps" by stage ("project", "tune"),
        "full_run_seconds_extrapolated" (by stage and "both"; not where the full run was measured), "peak_rss_mb" of
        the process, and "peak_gpu_mb" on a GPU.
    """
    if photos < 1:
        raise My3DGenError(f"--photos is {photos}; at least one is needed")
    on_gpu = prior.device.type == "cuda"
    faces = [_noise(i) for i in range(photos)]
    projecting, tuning = ProjectOptions.for_prior(prior), TuneOptions.for_prior(prior)
    full = {"project": projecting.steps, "tune": tuning.steps}
    count = {
        stage: full[stage] if steps is None and on_gpu else min(steps or 1, full[stage]) for stage in full
    }
    seconds: dict[str, float] = {}
    anchors = Anchors(
        prior.w_avg.expand(photos, prior.num_ws, -1).cpu(),
        torch.from_numpy(np.stack([face.camera for face in faces])),
    )
    # full steps for any but the whole run: what comes before them (`heads`) is quicker
    coarse = projecting.coarse_steps if count["project"] == full["project"] else 0
    runs = {
        "project": lambda n: project(
            prior, faces, progress=progress, options=replace(projecting, steps=n, coarse_steps=min(coarse, n))
        ),
        "tune": lambda n: personalize(
            prior, faces, anchors, progress=progress, options=replace(tuning, steps=n)
        ),
    }
    for stage, run in runs.items():
        if on_gpu:  # the first step also loads kernels
            run(1)
            torch.cuda.synchronize(prior.device)
        start = time.monotonic()
        run(count[stage])
        if on_gpu:
            torch.cuda.synchronize(prior.device)
        seconds[stage] = time.monotonic() - start
    each = {stage: seconds[stage] / max(count[stage], 1) for stage in seconds}
    result = {
        "device": torch.cuda.get_device_name(prior.device) if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "prior": prior.name,
        "photos": photos,
        "steps": count,
        "full_steps": full,
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "seconds_a_step": {stage: round(value, 4) for stage, value in each.items()},
        "peak_rss_mb": peak_rss_mb(),
    }
    if on_gpu:
        result["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated(prior.device) / 2**20)
    if count != full:
        whole = {stage: each[stage] * full[stage] for stage in full}
        whole["both"] = sum(whole.values())
        result["full_run_seconds_extrapolated"] = {stage: round(value) for stage, value in whole.items()}
    return result


def peak_rss_mb() -> int:
    """The most memory this process has had, megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)  # macOS counts bytes


def _noise(seed: int) -> Face:
    """A crop of noise with a camera of its own and the mean face's landmarks."""
    image = np.random.default_rng(seed).integers(0, 255, (512, 512, 3), np.uint8)
    camera = cameras.camera(0.3 * np.sin(seed), 0.1 * np.cos(seed))
    return Face(f"{seed}.png", image, np.ones((512, 512), bool), mean_landmarks(camera), camera.numpy())
