"""What a prior, personalized or not, is for. Every task takes either and returns pictures with figures."""

from my3dgen.tasks.compare import Comparison, compare
from my3dgen.tasks.edit import edit, edited
from my3dgen.tasks.export import depth_picture, export
from my3dgen.tasks.inpaint import inpaint
from my3dgen.tasks.interpolate import interpolate
from my3dgen.tasks.invert import invert
from my3dgen.tasks.look import novel_views, render_view, view_grid
from my3dgen.tasks.mesh import Mesh, mesh, write_mesh
from my3dgen.tasks.result import TaskResult
from my3dgen.tasks.synthesize import synthesize
from my3dgen.tasks.upscale import upscale
from my3dgen.tasks.video import turntable, write_video

__all__ = [
    "Comparison",
    "Mesh",
    "TaskResult",
    "compare",
    "depth_picture",
    "edit",
    "edited",
    "export",
    "inpaint",
    "interpolate",
    "invert",
    "mesh",
    "novel_views",
    "render_view",
    "synthesize",
    "turntable",
    "upscale",
    "view_grid",
    "write_mesh",
    "write_video",
]
