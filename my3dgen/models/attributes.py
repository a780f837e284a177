"""How much somebody smiles and how old they look: a linear reading of our perceptual trunk's features.

It ranks pictures of faces in EG3D's crop, photos and renders alike. It was trained on rendered people (see
`pretraining.attributes`) and is meant for finding and checking editing directions, not for judging people.
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor, nn

from my3dgen.assets import asset, opened
from my3dgen.models.perceptual import Trunk, load_trunk, require_trunk

FILE, FORMAT = "attributes.safetensors", "my3dgen-attributes"
# what is read, in the asset's order: smile, age, beard and hair_dark run from 0 to 1 (the reading is not
# clipped), yaw is the camera's in radians, > 0 to the person's left
NAMES = ("smile", "age", "yaw", "beard", "hair_dark")


class AttributeScorer(nn.Module):
    """One number a picture for each attribute; differentiable."""

    name = FORMAT

    def __init__(self, trunk: Trunk, weight: Tensor, bias: Tensor):
        """weight [len(NAMES), D] and bias [len(NAMES)] read the trunk's descriptions [B, D]."""
        super().__init__()
        self.trunk = trunk
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def read(self, features: Tensor) -> dict[str, Tensor]:
        """Scores {name: [B]} of descriptions [B, D] that the trunk has made already."""
        return dict(zip(NAMES, (features @ self.weight.T + self.bias).unbind(1), strict=True))

    def score(self, images: Tensor) -> dict[str, Tensor]:
        """Scores {name: [B]} of EG3D crops [B, 3, S, S] in [-1, 1], of any size S."""
        return self.read(self.trunk.describe(images))

    forward = score


@lru_cache(maxsize=1)
def load_attributes() -> AttributeScorer:
    """The trained scorer, frozen, on the CPU.

    Raises:
        My3DGenError: where a weights file is missing or damaged, or was made for another trunk.
    """
    with opened(FILE) as file:
        require_trunk(asset(FILE), file.metadata(), "attributes")
        weight, bias = file.get_tensor("weight").float(), file.get_tensor("bias").float()
    return AttributeScorer(load_trunk(), weight, bias).eval().requires_grad_(False)
