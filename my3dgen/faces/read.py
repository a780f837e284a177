"""Any photo a person may drop -> upright uint8 RGB pixels, with no metadata left."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from my3dgen.errors import My3DGenError

try:
    import pillow_heif

    pillow_heif.register_heif_opener()
except ImportError:  # everything but iPhone originals still works
    pillow_heif = None

# Only these decoders ever see an upload.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "TIFF", "BMP")
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # an MPO's or HEIF's further pictures are previews and bursts
_KINDS = "JPEG, PNG, WebP or HEIC photos"
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")

# a JPEG's segments: what begins one, apart from bytes of the picture (FF 00), restarts in it, and filling
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_SCAN, _END = 0xDA, 0xD9
ROWS = 256  # of a picture, converted at a time

PhotoSource = str | Path | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class ReadOptions:
    """What is accepted and how large the result may be."""

    longest_side: int = 3072  # larger photos are shrunk to this many pixels
    most_pixels: int = 120_000_000  # a header that claims more is refused before anything is decoded
    most_bytes: int = 200_000_000  # a larger file is not opened
    most_scans: int = 100  # of a progressive JPEG, which has about ten; each goes through all pixels again
    shortest_side: int = 48  # fewer pixels cannot hold a face


@dataclass(frozen=True)
class Photo:
    """A readable photo."""

    pixels: np.ndarray  # uint8 [H, W, 3], upright, sRGB
    warnings: tuple[str, ...] = ()


def source_name(photo: PhotoSource, index: int) -> str:
    """What a photo is called in lists: its path, or "photo 3" (from 1) where it has none."""
    if isinstance(photo, (str, Path)):
        return str(photo)
    name = getattr(photo, "filename", "")
    return str(name) if isinstance(name, (str, Path)) and str(name) else f"photo {index + 1}"


def read(photo: PhotoSource, options: ReadOptions | None = None) -> Photo:
    """Decode one photo.

    photo: a path, an encoded file's bytes, a PIL image, or uint8 [H, W, 3] (also [H, W], [H, W, 4]).
    EXIF rotation is applied and all metadata (place, camera, time) dropped; transparency goes on
    white; of an animation the first frame is taken. Raises My3DGenError: one sentence, what is wrong.
    """
    options = options or ReadOptions()
    if isinstance(photo, np.ndarray):
        return Photo(_from_array(photo, options))
    if isinstance(photo, Image.Image):
        _require_pixels(*photo.size, options)
        return _decode(photo, options, ours=False)
    with open_picture(photo, options) as image:
        return _decode(image, options, ours=True)


def open_picture(photo: str | Path | bytes, options: ReadOptions | None = None) -> Image.Image:
    """A picture whose header was read and found acceptable; nothing is decoded yet.

    Whatever comes from a file is opened here: by these decoders only, and no more pixels than the options allow.
    Raises My3DGenError: one sentence, what is wrong.
    """
    options = options or ReadOptions()
    image = _open(_file_bytes(photo, options), options)
    _require_pixels(*image.size, options)
    return image


def _file_bytes(photo: str | Path | bytes, options: ReadOptions) -> bytes:
    if isinstance(photo, (bytes, bytearray, memoryview)):
        data = bytes(photo)
    elif isinstance(photo, (str, Path)):
        path = Path(photo)
        try:
            if not path.is_file():
                what = "is a folder" if path.is_dir() else "does not exist"
                raise My3DGenError(f"The file {path.name} {what}; give the path of a photo.")
            if path.stat().st_size > options.most_bytes:
                raise My3DGenError(_too_many_bytes(path.stat().st_size, options))
            data = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise My3DGenError(
                f"The file cannot be opened ({error}); check the path and its access."
            ) from None
    else:
        raise My3DGenError(
            f"A photo is a path, bytes, a PIL image or a uint8 array; this is a {type(photo).__name__}."
        )
    if not data:
        raise My3DGenError("The file is empty (0 bytes); copy or download the photo again.")
    if len(data) > options.most_bytes:
        raise My3DGenError(_too_many_bytes(len(data), options))
    return data


def _too_many_bytes(size: int, options: ReadOptions) -> str:
    return (
        f"The file has {size / 1e6:.0f} MB; at most {options.most_bytes / 1e6:.0f} MB are read, "
        "so save a smaller copy."
    )


def _open(data: bytes, options: ReadOptions) -> Image.Image:
    """Parse the header only."""
    if (
        data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24
    ):  # Pillow reads past a PNG's size before it checks
        _require_pixels(*struct.unpack(">II", data[16:24]), options)
    if data[:2] == b"\xff\xd8" and scans(data) > options.most_scans:
        raise My3DGenError(
            "The picture is stored in a way that takes too long to decode; export it again as a JPEG."
        )
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise My3DGenError(_too_many_pixels("more than 170", options)) from None
    except UnidentifiedImageError:
        raise My3DGenError(f"This is not a picture that can be read; use {_KINDS}.") from None
    except Exception:  # a decoder that trips over a mangled header may raise nearly anything
        raise My3DGenError(f"The picture's header is damaged; copy or export it again ({_KINDS}).") from None


def scans(data: bytes) -> int:
    """How many scans a JPEG's first picture has, as far as the file goes."""
    found, at = 0, 2
    while (marker := _MARKER.search(data, at)) and data[marker.start() + 1] != _END:
        if data[marker.start() + 1] == _SCAN:
            found += 1
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        at = marker.end() + max(length, 2)
    return found


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _too_many_pixels(megapixels: str, options: ReadOptions) -> str:
    return (
        f"The picture claims {megapixels} million pixels; at most {options.most_pixels / 1e6:.0f} million "
        "are read, so save a smaller copy."
    )


def _require_pixels(width: int, height: int, options: ReadOptions) -> None:
    if width * height > options.most_pixels:
        raise My3DGenError(_too_many_pixels(f"{width} x {height} = {width * height / 1e6:.0f}", options))


def _decode(image: Image.Image, options: ReadOptions, ours: bool) -> Photo:
    """ours: opened here, so that it may be wound back and decoded at a fraction of its size."""
    _require_size(*image.size, options)
    warnings = []
    try:
        # not how many frames it has: a GIF would be read to its end for that
        if ours and image.format in _ANIMATED and getattr(image, "is_animated", False):
            warnings.append("This is an animation; only its first frame is used.")
            image.seek(0)
        if ours and image.format in ("JPEG", "MPO"):
            image.draft(None, (options.longest_side, options.longest_side))  # 1/2, 1/4 or 1/8
        image.load()
        return Photo(np.array(_to_rgb(_flatten(upright(image), options))), tuple(warnings))
    except Exception as error:
        text = str(error).lower()
        if any(word in text for word in ("truncated", "end of file", "too short", "premature", "incomplete")):
            raise My3DGenError(
                "The picture is cut short: its file ends before the picture does; copy or download it again."
            ) from None
        raise My3DGenError("The picture is damaged and cannot be decoded; copy or export it again.") from None


def upright(image: Image.Image) -> Image.Image:
    """The picture as viewers show it: turned as its EXIF orientation says."""
    try:
        turned = image.getexif().get(0x0112, 1) != 1  # the orientation tag; turning always copies
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # damaged EXIF says nothing about the picture itself
        return image


def _require_size(width: int, height: int, options: ReadOptions) -> None:
    if min(width, height) < options.shortest_side:
        raise My3DGenError(
            f"The picture is {width} x {height} pixels; at least {options.shortest_side} on each side are "
            "needed, so use the original photo."
        )


def _flatten(image: Image.Image, options: ReadOptions) -> Image.Image:
    """Any mode -> 8-bit RGB, L or CMYK without transparency, shrunk as early as it can be: what follows makes copies."""
    if image.mode in SIXTEEN_BIT:
        return _shrink(Image.fromarray(to_eight_bit(np.asarray(image))), options)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        profile = image.info.get("icc_profile") if image.mode == "RGBA" else None
        rgba = _shrink(image if image.mode == "RGBA" else image.convert("RGBA"), options)
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba).convert("RGB")
        if profile:
            image.info["icc_profile"] = profile
        return image
    return _shrink(image if image.mode in ("RGB", "CMYK") else image.convert("RGB"), options)


def to_eight_bit(values: np.ndarray) -> np.ndarray:
    """One channel of 16-bit integers or floats -> uint8, by the full range of the kind of number."""
    brightest = values.max(initial=0)
    top = 65535.0 if values.dtype.kind != "f" else (1.0 if brightest <= 1.0 else 255.0)
    out = np.empty(values.shape, np.uint8)
    for rows in range(0, len(values), ROWS):  # some at a time: a large picture's floats would fill the memory
        some = values[rows : rows + ROWS].astype(np.float32)
        out[rows : rows + ROWS] = np.clip(np.round(some * (255.0 / top)), 0, 255)
    return out


def _shrink(image: Image.Image, options: ReadOptions) -> Image.Image:
    scale = options.longest_side / max(image.size)
    if scale >= 1.0:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)  # antialiased


def _to_rgb(image: Image.Image) -> Image.Image:
    """Honour an embedded colour profile (phones save Display P3, print shops CMYK); else plain RGB."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken or foreign profile: the plain colours are the better guess
    return image.convert("RGB")


def _from_array(array: np.ndarray, options: ReadOptions) -> np.ndarray:
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3, 4))
    ):
        raise My3DGenError(
            f"An array photo must be uint8 [H, W, 3]; this one is {array.dtype} {list(array.shape)}."
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    height, width = array.shape[:2]
    _require_pixels(width, height, options)
    _require_size(width, height, options)
    return np.array(_flatten(Image.fromarray(array), options))
