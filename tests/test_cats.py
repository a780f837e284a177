"""Photos of cats: a crop and a frontal camera, to be refined in projection."""

import numpy as np
import pytest
from PIL import Image

import my3dgen
from my3dgen.personal.objective import head_region


def photo(width: int, height: int) -> np.ndarray:
    """A gradient with a white square in the very middle."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 200, width)[None]
    x, y = width // 2, height // 2
    pixels[y - 20 : y + 20, x - 20 : x + 20] = 255
    return pixels


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (512, 512)])
def test_the_central_square_seen_from_the_front(width, height):
    (face,) = my3dgen.prepare([photo(width, height)], kind="cat")
    assert face.usable and face.warnings == ()
    assert face.image.shape == (512, 512, 3) and face.valid.all()
    assert (face.image[250:262, 250:262] > 250).all()
    assert np.allclose(face.camera, my3dgen.camera(0.0, 0.0).numpy())
    middle = face.placement.to_crop(np.array([width / 2, height / 2]))
    assert np.abs(middle - 256).max() < 1.0
    assert head_region(face.landmarks)[256, 256] > 0.9  # what fits need of the landmarks


def test_what_cannot_be_used(tmp_path):
    small, good = photo(200, 100), photo(300, 300)
    (tmp_path / "note.jpg").write_text("no picture")
    refused, unreadable, face = my3dgen.prepare([small, tmp_path / "note.jpg", good], kind="cat")
    assert "100 pixels" in refused.refused and unreadable.refused and face.usable
    with pytest.raises(my3dgen.My3DGenError, match="'person' or 'cat'"):
        my3dgen.prepare([good], kind="dog")
    assert my3dgen.prepare([Image.fromarray(good)])[0].refused  # as a person: nobody is there
