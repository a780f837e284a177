"""my3dgen: a 3D model of your own face from a handful of selfies.

import my3dgen
prior = my3dgen.load_prior("heads")
faces = my3dgen.prepare(["a.jpg", "b.heic"])
anchors = my3dgen.project(prior, faces)
adapter = my3dgen.personalize(prior, faces, anchors)
me = prior.personalized(adapter)
image = me.render(anchors.ws[0], my3dgen.camera(yaw=0.2, pitch=0.0))
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# The same input gives the same pixels: on Intel processors MKL, which torch calls, otherwise rounds by where in memory a matrix
# happens to lie. It reads this at its first use.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# where each public name lives; looked up at first use, so that `import my3dgen` itself is quick
_HOMES = {
    "My3DGenError": "errors",
    "Progress": "progress",
    "camera": "cameras",
    "look_at_sampler": "cameras",
    "Face": "faces",
    "prepare": "faces",
    "with_mirrors": "faces.mirrors",
    "Prior": "priors",
    "load_prior": "priors",
    "Anchors": "personal.anchors",
    "Adapter": "personal.adapter",
    "load_adapter": "personal.adapter",
    "ProjectOptions": "personal.project",
    "project": "personal.project",
    "TuneOptions": "personal.tune",
    "personalize": "personal.tune",
    "full_fine_tuning": "personal.tune",
    "TaskResult": "tasks",
    "Comparison": "tasks",
    "compare": "tasks",
    "invert": "tasks",
    "inpaint": "tasks",
    "upscale": "tasks",
    "interpolate": "tasks",
    "synthesize": "tasks",
    "edit": "tasks",
    "edited": "tasks",
    "export": "tasks",
    "mesh": "tasks.mesh",
    "write_mesh": "tasks.mesh",
    "turntable": "tasks.video",
    "write_video": "tasks.video",
    "depth_picture": "tasks.export",
    "render_view": "tasks",
    "novel_views": "tasks",
    "view_grid": "tasks",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from my3dgen import cameras
    from my3dgen.cameras import camera, look_at_sampler
    from my3dgen.errors import My3DGenError
    from my3dgen.faces import Face, prepare
    from my3dgen.faces.mirrors import with_mirrors
    from my3dgen.personal.adapter import Adapter, load_adapter
    from my3dgen.personal.anchors import Anchors
    from my3dgen.personal.project import ProjectOptions, project
    from my3dgen.personal.tune import TuneOptions, full_fine_tuning, personalize
    from my3dgen.priors import Prior, load_prior
    from my3dgen.progress import Progress
    from my3dgen.tasks import (
        Comparison,
        TaskResult,
        compare,
        depth_picture,
        edit,
        edited,
        export,
        inpaint,
        interpolate,
        invert,
        mesh,
        novel_views,
        render_view,
        synthesize,
        turntable,
        upscale,
        view_grid,
        write_mesh,
        write_video,
    )


def __getattr__(name: str):
    if name == "cameras":  # whole: it offers more than the two names above
        return import_module("my3dgen.cameras")
    if name not in _HOMES:
        raise AttributeError(f"module 'my3dgen' has no attribute {name!r}")
    value = getattr(import_module(f"my3dgen.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
