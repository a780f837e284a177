"""Photos to faces: read, detect, align, pose, judge. Nothing here needs a network or a GPU."""

from my3dgen.faces.face import Face
from my3dgen.faces.prepare import PrepareOptions, prepare
from my3dgen.faces.quality import QualityLimits, set_warnings

__all__ = ["Face", "PrepareOptions", "QualityLimits", "prepare", "set_warnings"]
