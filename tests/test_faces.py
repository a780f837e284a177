"""Photos to faces: reading anything, and refusing clearly."""

import io
import struct
import zlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter

from my3dgen import cameras
from my3dgen.errors import My3DGenError
from my3dgen.faces import Face, prepare, quality, set_warnings
from my3dgen.faces.align import five_points, place
from my3dgen.faces.detect import detect, landmarks
from my3dgen.faces.pose import estimate
from my3dgen.faces.read import read, scans

EXAMPLES = Path(__file__).parent.parent / "examples"
PERSON = skimage.data.astronaut()  # uint8 [512, 512, 3], one face


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@lru_cache
def person_face() -> Face:
    return prepare([PERSON])[0]


def only(photo) -> Face:
    (face,) = prepare([photo])
    return face


def assert_one_sentence(text: str) -> None:
    assert text and (text[0].isupper() or text[0].isdigit()) and text.endswith(".") and "\n" not in text
    assert "Traceback" not in text and "Error" not in text and len(text) < 220


# --- reading -------------------------------------------------------------------------------------


def test_formats_agree(tmp_path):
    image = Image.fromarray(PERSON)
    for name, options in {
        "a.png": {},
        "a.jpg": {"quality": 95},
        "a.webp": {"quality": 95},
        "a.tif": {},
        "a.bmp": {},
    }.items():
        path = tmp_path / name
        image.save(path, **options)
        pixels = read(path).pixels
        assert pixels.dtype == np.uint8 and pixels.shape == PERSON.shape
        assert np.abs(pixels.astype(int) - PERSON).mean() < 4, name
    assert np.array_equal(read(image).pixels, PERSON)
    assert np.array_equal(read(PERSON).pixels, PERSON)
    assert np.array_equal(read(encoded(image, "PNG")).pixels, PERSON)


def test_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "a.heic"
    small = Image.fromarray(PERSON[::4, ::4])
    pillow_heif.from_pillow(small).save(path, quality=90)
    assert np.abs(read(path).pixels.astype(int) - np.asarray(small)).mean() < 8
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(My3DGenError):
        read(path)


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_honoured_and_metadata_dropped(orientation, turns):
    lying = Image.fromarray(np.rot90(PERSON, -turns).copy())
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8825)[1] = "N"  # a place
    data = encoded(lying, "JPEG", quality=95, exif=exif)
    pixels = read(data).pixels
    assert np.abs(pixels.astype(int) - PERSON).mean() < 4


def test_cmyk_and_colour_profiles():
    cmyk = encoded(Image.fromarray(PERSON).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read(cmyk).pixels.astype(int) - PERSON).mean() < 6
    broken = encoded(Image.fromarray(PERSON), "PNG", icc_profile=b"no profile at all")
    assert np.array_equal(read(broken).pixels, PERSON)


def test_sixteen_bits_keep_their_brightness(tmp_path):
    grey = np.asarray(Image.fromarray(PERSON).convert("L"))
    path = tmp_path / "grey16.png"
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    assert np.abs(read(path).pixels[..., 1].astype(int) - grey).max() <= 1
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "colour16.png"
    cv2.imwrite(str(path), PERSON[..., ::-1].astype(np.uint16) * 257)
    assert np.abs(read(path).pixels.astype(int) - PERSON).max() <= 1


def test_transparency_goes_on_white():
    rgba = np.dstack([PERSON, np.full((512, 512), 255, np.uint8)])
    rgba[:100, :, 3] = 0
    pixels = read(encoded(Image.fromarray(rgba), "PNG")).pixels
    assert (pixels[:100] == 255).all() and np.array_equal(pixels[100:], PERSON[100:])
    assert np.array_equal(read(rgba).pixels, pixels)


def test_animation_gives_its_first_frame_and_a_warning():
    frames = [Image.fromarray(PERSON), Image.fromarray(255 - PERSON)]
    photo = read(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.abs(photo.pixels.astype(int) - PERSON).mean() < 15
    assert len(photo.warnings) == 1 and "animation" in photo.warnings[0]
    assert_one_sentence(photo.warnings[0])


def test_a_jpeg_of_very_many_scans_is_refused():
    """Each costs time for all pixels, and next to nothing in the file."""
    progressive = encoded(Image.fromarray(PERSON), "JPEG", progressive=True)
    assert 2 < scans(progressive) < 20 and scans(encoded(Image.fromarray(PERSON), "JPEG")) == 1
    assert read(progressive).pixels.shape == PERSON.shape
    last, end = progressive.rindex(b"\xff\xda"), progressive.rindex(b"\xff\xd9")
    many = progressive[:end] + progressive[last:end] * 200 + progressive[end:]
    assert scans(many) == scans(progressive) + 200
    with pytest.raises(My3DGenError, match="too long to decode"):
        read(many)
    assert scans(progressive + many) == scans(progressive), (
        "what follows the picture, a film for one, is no scan of it"
    )
    assert scans(b"\xff\xd8") == scans(b"\xff\xd8\xff\xda") - 1 == 0, "cut short"


def test_large_photos_are_shrunk():
    pixels = read(encoded(Image.new("RGB", (5000, 2500), (10, 200, 30)), "JPEG")).pixels
    assert pixels.shape == (1536, 3072, 3)
    assert np.abs(pixels.astype(int) - [10, 200, 30]).max() < 5


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def bad_photos(folder) -> dict:
    jpeg = encoded(Image.fromarray(PERSON), "JPEG", quality=95)
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    files = {
        "text.jpg": b"this is not a picture",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": encoded(Image.fromarray(PERSON), "PNG")[:100000],
        "empty.jpg": b"",
        "one.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "bomb.png": png_header(60000, 60000) + b"\0" * 100,
        "large.png": png_header(12000, 12000) + b"\0" * 100,
        "black.png": encoded(Image.new("RGB", (300, 300)), "PNG"),
        "white.png": encoded(Image.new("RGB", (300, 300), (255, 255, 255)), "PNG"),
        "flat.png": encoded(Image.new("RGB", (300, 300), (90, 120, 90)), "PNG"),
        "noise.png": encoded(Image.fromarray(noise), "PNG"),
        "coffee.png": encoded(Image.fromarray(skimage.data.coffee()), "PNG"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    photos = {name: str(folder / name) for name in files}
    photos |= {"missing": str(folder / "missing.jpg"), "folder": str(folder), "none": None, "number": 3}
    photos |= {"floats": np.zeros((200, 200, 3)), "tiny": np.zeros((4, 4, 3), np.uint8), "bytes": b""}
    return photos


def test_every_bad_photo_gives_one_sentence_and_spoils_nothing(tmp_path):
    photos = bad_photos(tmp_path)
    seen = []
    faces = prepare([*photos.values(), PERSON], progress=lambda report: seen.append(report.step))
    assert seen == list(range(1, len(photos) + 2))
    assert faces[-1].refused is None  # the good one after all the bad ones
    for name, face in zip(photos, faces, strict=False):
        assert face.refused is not None, name
        assert_one_sentence(face.refused)
    reason = {name: face.refused for name, face in zip(photos, faces, strict=False)}
    assert "not a picture" in reason["text.jpg"]
    assert "cut short" in reason["truncated.jpg"] and "cut short" in reason["truncated.png"]
    assert "empty" in reason["empty.jpg"] and "1 x 1" in reason["one.png"]
    assert "million pixels" in reason["bomb.png"] and "million pixels" in reason["large.png"]
    assert "nearly black" in reason["black.png"] and "nearly white" in reason["white.png"]
    assert "No face" in reason["coffee.png"] and "does not exist" in reason["missing"]
    by_name = dict(zip(photos, faces, strict=False))
    assert by_name["coffee.png"].source.endswith("coffee.png")
    assert max(by_name["coffee.png"].thumbnail.shape) == 256


@pytest.mark.parametrize("photos", [[], "a.jpg", b"abc", PERSON, None, 7, Image.fromarray(PERSON)])
def test_unusable_arguments_raise(photos):
    with pytest.raises(My3DGenError):
        prepare(photos)


def test_a_stop_keeps_what_there_is():
    faces = prepare([PERSON, PERSON, PERSON], progress=lambda report: False)
    assert len(faces) == 3 and faces[0].refused is None
    assert all("stopped" in face.refused for face in faces[1:])


# --- a real photograph ---------------------------------------------------------------------------


def test_a_real_photograph_has_one_usable_face():
    face = person_face()
    assert face.refused is None and not any("faces were found" in text for text in face.warnings)
    assert face.image.shape == (512, 512, 3) and face.image.dtype == np.uint8
    assert face.valid.shape == (512, 512) and face.valid.dtype == bool and face.valid.mean() > 0.9
    assert face.landmarks.shape == (68, 2) and face.camera.shape == (25,)
    for warning in face.warnings:
        assert_one_sentence(warning)
    # the crop is standard: aligning it again changes next to nothing
    again = place(face.landmarks)
    assert abs(again.scale - 1) < 1e-4 and np.abs(again.offset).max() < 0.05
    # eyes, nose and mouth read off the photo by hand, in photo pixels
    by_hand = np.array([[203.0, 101.0], [247.0, 103.0], [224.0, 126.5], [203.0, 140.0], [245.0, 140.5]])
    marks = landmarks(PERSON, detect(PERSON)[0])
    assert np.abs(five_points(marks) - by_hand).max() < 6
    found, wanted = place(marks), place(by_hand)
    assert abs(found.scale / wanted.scale - 1) < 0.06
    assert np.abs((found.to_crop(by_hand) - wanted.to_crop(by_hand)).mean(0)).max() < 12
    yaw, pitch, roll = cameras.angles(face.camera)
    assert abs(yaw) < 0.35 and abs(pitch) < 0.3 and abs(roll) < 0.2


def test_the_crop_of_a_crop_is_the_crop():
    face = person_face()
    again = only(face.image)
    assert np.linalg.norm(again.landmarks - face.landmarks, axis=1).mean() < 6
    assert np.linalg.norm((again.landmarks - face.landmarks).mean(0)) < 4


def test_two_people_are_mentioned():
    face = only(np.concatenate([PERSON, PERSON[:, ::-1]], axis=1))
    assert face.refused is None
    assert any("2 faces" in text for text in face.warnings)


def test_the_face_may_fill_the_photo():
    left, top, right, bottom = 165, 60, 285, 190
    face = only(np.array(Image.fromarray(PERSON).crop((left, top, right, bottom)).resize((600, 650))))
    assert face.image is not None  # found with a border added, and judged
    assert not face.valid.all()


def test_mirrored_face():
    face = person_face()
    flipped = Face(**{**face.__dict__, "source": "some/where/me.jpg"}).mirrored()
    assert flipped.source == "me_mirror"
    assert np.array_equal(flipped.image, face.image[:, ::-1])
    assert np.array_equal(flipped.valid, face.valid[:, ::-1])
    np.testing.assert_allclose(flipped.camera, cameras.mirror(face.camera).numpy())
    np.testing.assert_allclose(estimate(flipped.landmarks)[0], flipped.camera, atol=1e-4)
    np.testing.assert_allclose(flipped.mirrored().landmarks, face.landmarks, atol=1e-4)
    assert flipped.refused is None and flipped.warnings == face.warnings


def test_a_refused_face_can_be_mirrored():
    assert Face("a.jpg", refused="Why.").mirrored().refused == "Why."


# --- quality -------------------------------------------------------------------------------------


def larger(array: np.ndarray = PERSON, factor: int = 2) -> Image.Image:
    image = Image.fromarray(array)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def test_blur_is_refused_in_words():
    assert quality.sharpness(person_face()) > 40
    face = only(np.array(larger().filter(ImageFilter.GaussianBlur(9))))
    assert face.refused is not None
    assert "blurred" in face.refused or "No face" in face.refused
    mild = only(np.array(larger().filter(ImageFilter.GaussianBlur(3.5))))
    assert any("blurred" in text for text in [*mild.warnings, str(mild.refused)])


def test_darkness_and_glare():
    dark = only((PERSON * 0.08).astype(np.uint8))
    assert "dark" in dark.refused or "nearly black" in dark.refused
    dim = only((PERSON * 0.16).astype(np.uint8))
    assert any("dark" in text for text in [*dim.warnings, str(dim.refused)])
    bright = only(np.clip(PERSON * 0.08 + 236, 0, 255).astype(np.uint8))
    assert bright.refused is not None and ("bright" in bright.refused or "white" in bright.refused)


def test_small_faces():
    face = only(np.array(Image.fromarray(PERSON).resize((256, 256), Image.Resampling.LANCZOS)))
    assert face.refused is not None
    assert "pixels wide" in face.refused or "No face" in face.refused


def judged(yaw=0.0, pitch=0.0, **changes) -> quality.Verdict:
    face = person_face()
    changes.setdefault("camera", cameras.camera(yaw, pitch).numpy())
    return quality.judge(Face(**{**face.__dict__, **changes}), photo_scale=1.0)


def test_angles_are_warned_about_and_refused():
    assert judged() == quality.Verdict(None, ())
    assert "turned 40 degrees to its right" in judged(0.7).warnings[0]
    assert "turned 57 degrees to its left" in judged(-1.0).refused
    assert "degrees down" in judged(0, 0.6).warnings[0]
    for verdict in (judged(0.7), judged(0, -0.6)):
        assert_one_sentence(verdict.warnings[0])


def test_a_photo_that_stands_on_its_head_is_named():
    """The detector sees a face in it, and landmarks of one can be laid over it."""
    photo = np.asarray(Image.open(EXAMPLES / "ada" / "photo_00.jpg"))
    for upright in (photo, PERSON):
        assert "upside down" in only(np.ascontiguousarray(upright[::-1, ::-1])).refused
        assert not (only(upright).refused or "")
    assert "upside down" not in only(np.full((300, 300, 3), 128, np.uint8)).refused


def test_a_tilted_head_is_not_upside_down():
    """Turned by half a turn, a small part of it may look like a face of its own."""
    photo = cv2.resize(cv2.imread(str(EXAMPLES / "bruno" / "photo_06.jpg"))[..., ::-1], None, fx=0.8, fy=0.8)
    height, width = photo.shape[:2]
    for degrees in (-42, -40):
        tilt = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        tilted = cv2.warpAffine(photo, tilt, (width, height), borderMode=cv2.BORDER_REPLICATE)
        assert "upside down" not in (only(tilted).refused or "")


def test_a_cut_off_face():
    valid = np.ones((512, 512), bool)
    valid[330:] = False
    assert "cuts off" in judged(valid=valid).refused
    valid = np.ones((512, 512), bool)
    valid[:, :160] = False
    assert judged(valid=valid).refused or judged(valid=valid).warnings


def test_strangers_stand_out():
    rng = np.random.default_rng(0)
    person, other = rng.standard_normal((2, 512))
    vectors = person + 0.7 * rng.standard_normal((6, 512))
    vectors[4] = other
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert [index for index, *_ in quality.strangers(vectors)] == [4]
    assert quality.strangers(np.delete(vectors, 4, 0)) == []
    assert quality.strangers(vectors[3:5]) == []  # two photos cannot tell
    assert [index for index, *_ in quality.strangers(vectors[[0, 4, 1]])] == [1]


def test_set_warnings():
    good = person_face()
    assert "Only 1 photo is" in set_warnings([good, Face("b", refused="No.")])[0]
    assert "No photo" in set_warnings([Face("b", refused="No.")])[0]
    turned = [
        Face(**{**good.__dict__, "camera": cameras.camera(y, 0).numpy()}) for y in np.linspace(-0.4, 0.4, 6)
    ]
    assert set_warnings(turned) == []
    assert "same side" in set_warnings([good] * 6)[0]
    assert "more than 50" in set_warnings(turned * 9)[0]
    for sentence in set_warnings([good] * 60):
        assert_one_sentence(sentence)


def test_the_same_photo_twice_is_mentioned():
    faces = prepare([PERSON, PERSON])
    assert not any("same picture" in text for text in faces[0].warnings)
    assert any("same picture" in text for text in faces[1].warnings)


def test_other_landmark_files(monkeypatch, tmp_path):
    monkeypatch.setenv("MY3DGEN_LANDMARKS", str(tmp_path / "none.dat"))
    with pytest.raises(My3DGenError, match="MY3DGEN_LANDMARKS"):
        prepare([PERSON])
