"""Films: a face that turns, alone or beside another, as MP4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from my3dgen.cameras import orbit
from my3dgen.errors import My3DGenError, whole
from my3dgen.progress import ProgressCallback, Ticker
from my3dgen.tasks.look import render_views
from my3dgen.writing import replacing

FRAMES = (1, 1000)  # pictures that a turntable may have
YAW, PITCH = 0.45, 0.12  # radians; further round, a prior guesses what it has hardly seen
# Without this, players take small films for another colour standard than large ones and skin changes its hue.
_COLOURS = (
    "-vf scale=out_color_matrix=bt709:out_range=tv -colorspace bt709 -color_primaries bt709 -color_trc bt709"
)


def turntable(
    prior,
    ws: Tensor,
    frames: int = 60,
    yaw: float = YAW,
    pitch: float = PITCH,
    progress: ProgressCallback | None = None,
) -> list[np.ndarray]:
    """One round of a face that turns left and right and nods a little; the last frame leads into the first.

    Args:
        prior: a Prior, personalized or not.
        ws: [L, w_dim], the face. Its planes are computed once.
        frames: pictures in the round, 1 to 1000.
        yaw, pitch: the widest angles, radians.
        progress: False keeps the frames there are (which then no longer close the loop).

    Returns:
        uint8 [H, W, 3] each, of the prior's own size.

    Raises:
        My3DGenError: for a number of frames out of range.
    """
    frames = whole("frames", frames, *FRAMES)
    cameras = orbit(frames, yaw, pitch, pivot=prior.config.camera_pivot)
    pictures, ticker = [], Ticker("film", frames, progress)
    for picture in render_views(prior, ws, cameras):
        pictures.append(picture)
        if not ticker.tick(len(pictures)):
            break
    return pictures


def side_by_side(
    left: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    labels: tuple[str, str] = ("pretrained", "personalized"),
) -> list[np.ndarray]:
    """Two films as one, each with a small label above it: uint8 [H', 2 W, 3] frames from uint8 [H, W, 3] ones.

    Raises:
        My3DGenError: where the films differ in length or size.
    """
    sizes = {frame.shape for frame in chain(left, right)}
    if len(left) != len(right) or len(sizes) != 1:
        raise My3DGenError(
            f"Films side by side need as many frames of one size each; got {len(left)} and {len(right)} frames "
            f"of sizes {sorted(sizes)[:4]}."
        )
    _, width, _ = sizes.pop()
    bar = np.concatenate([label_bar(text, width) for text in labels], axis=1)
    return [np.concatenate([bar, np.concatenate(pair, axis=1)]) for pair in zip(left, right, strict=True)]


def label_bar(text: str, width: int) -> np.ndarray:
    """A dark bar with a word in its middle, uint8 [h, width, 3]; h grows with the width and is even."""
    height = max(18, round(width / 12)) // 2 * 2
    bar = Image.new("RGB", (width, height), (24, 24, 27))
    font = ImageFont.load_default(size=height * 0.6)
    ImageDraw.Draw(bar).text((width / 2, height / 2), text, (244, 244, 245), font, anchor="mm")
    return np.asarray(bar)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float = 30) -> Path:
    """Write uint8 [H, W, 3] frames as MP4 (H.264, yuv420p, which every browser plays), whole or not at all.

    Odd sizes are made even by repeating the last row or column, as the format needs.

    Raises:
        My3DGenError: without frames, for frames of different sizes or kinds, a rate out of range, another
            ending than .mp4, or where the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise My3DGenError(f"A film is written as .mp4, not as {path.name[:80]!r}.")
    if not 1 <= fps <= 120:
        raise My3DGenError(f"A film has 1 to 120 frames a second; got {fps}.")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise My3DGenError("A film needs at least one frame; got none.")
    _require_picture(first, np.shape(first))
    with replacing(path) as file:
        _encode(str(file.absolute()), chain([first], frames), first.shape, fps)
    return path


def _encode(path: str, frames: Iterable[np.ndarray], shape: tuple[int, ...], fps: float) -> None:
    import imageio_ffmpeg  # here, since looking for its program takes a moment that a web page need not wait

    height, width = (size + size % 2 for size in shape[:2])
    writer = imageio_ffmpeg.write_frames(
        path,
        (width, height),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,
        quality=None,
        ffmpeg_log_level="error",
        output_params=[*_COLOURS.split(), "-crf", "18", "-preset", "veryfast", "-movflags", "+faststart"],
    )
    writer.send(None)
    try:
        for frame in frames:
            _require_picture(frame, shape)
            padded = np.pad(frame, ((0, height - shape[0]), (0, width - shape[1]), (0, 0)), mode="edge")
            writer.send(np.ascontiguousarray(padded))
    finally:
        writer.close()


def _require_picture(frame: np.ndarray, shape: tuple[int, ...]) -> None:
    ok = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape == shape
    if not ok or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise My3DGenError(
            f"A film's frames must be uint8 [H, W, 3] and all of one size; got {getattr(frame, 'dtype', type(frame))} "
            f"{list(np.shape(frame))} in a film of {list(shape)}."
        )
