"""What a prior, personalized or not, is for. Every task takes either and returns pictures with figures."""

from my3dgen.tasks.compare import Comparison, compare
from my3dgen.tasks.edit import edit, edited
from my3dgen.tasks.inpaint import inpaint
from my3dgen.tasks.interpolate import interpolate
from my3dgen.tasks.invert import invert
from my3dgen.tasks.look import novel_views, render_view, view_grid
from my3dgen.tasks.result import TaskResult
from my3dgen.tasks.synthesize import synthesize
from my3dgen.tasks.upscale import upscale

__all__ = [
    "Comparison",
    "TaskResult",
    "compare",
    "edit",
    "edited",
    "inpaint",
    "interpolate",
    "invert",
    "novel_views",
    "render_view",
    "synthesize",
    "upscale",
    "view_grid",
]
