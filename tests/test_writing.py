"""Files are written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from my3dgen.errors import My3DGenError
from my3dgen.writing import replacing, write_picture


def test_what_was_there_stays_when_writing_fails(tmp_path: Path):
    path = tmp_path / "me.json"
    path.write_text("before")
    with pytest.raises(ValueError), replacing(path) as file:
        file.write_text("half")
        assert file.suffix == ".json" and path.read_text() == "before"
        raise ValueError
    with (
        pytest.raises(My3DGenError, match=r"me\.json cannot be written \(no space\)"),
        replacing(path) as file,
    ):
        file.write_text("half")
        raise OSError(28, "no space")
    assert path.read_text() == "before"
    with replacing(path) as file:
        file.write_text("after")
    assert path.read_text() == "after" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_made_and_a_file_in_its_place_is_named(tmp_path: Path):
    picture = np.full((4, 6, 3), 90, np.uint8)
    path = write_picture(picture, tmp_path / "new" / ("x" * 150 + ".png"))
    assert (np.asarray(Image.open(path)) == picture).all()
    with pytest.raises(My3DGenError, match="cannot be written .*; choose another folder"):
        write_picture(picture, path / "below.png")
    with pytest.raises(My3DGenError, match="give the name of a file"):
        write_picture(picture, ".")


def test_a_link_stays_one(tmp_path: Path):
    (tmp_path / "link.json").symlink_to(tmp_path / "there.json")
    with replacing(tmp_path / "link.json") as file:
        file.write_text("x")
    assert (tmp_path / "there.json").read_text() == "x" and (tmp_path / "link.json").is_symlink()
