"""What a prior, personalized or not, is for. Every task takes either and returns pictures with figures."""

from my3dgen.tasks.compare import Comparison, compare
from my3dgen.tasks.invert import invert
from my3dgen.tasks.look import novel_views, render_view, view_grid
from my3dgen.tasks.result import TaskResult

__all__ = ["Comparison", "TaskResult", "compare", "invert", "novel_views", "render_view", "view_grid"]
