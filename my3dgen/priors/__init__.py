"""The pretrained 3D face models: finding, reading and holding them."""

from my3dgen.priors.catalogue import load_prior
from my3dgen.priors.prior import Prior

__all__ = ["Prior", "load_prior"]
