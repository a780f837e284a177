"""HTML of results: pictures side by side, strips, grids, bars and curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from my3dgen.studio.pictures import data_uri

SIDES = {"pretrained": "Pretrained", "personalized": "Personalized"}  # as code and as visitors call them
FULL = {"full": "Full fine-tuning"}  # the third side, in Compare, where it was asked for
KINDS = {"Pretrained": "before", "Personalized": "after"}  # how their bars and lines are drawn
ROUND = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)  # what a full bar may stand for
PLOT = (480, 150)  # drawn width and height of a plot


def scores(
    pretrained: float | None,
    personalized: float | None,
    caption: str,
    ceiling: float | None = None,
    others: Mapping[str, float | None] | None = None,
) -> str:
    """Identity similarity before and after as two bars.

    ceiling: what the person's real photos reach. others: further bars by name, drawn above.
    """
    rows = dict(others or {}) | {"Pretrained": pretrained, "Personalized": personalized}
    if ceiling is not None:
        rows["Your real photos"] = ceiling
    return bars(rows, caption)


def bars(rows: Mapping[str, float | None], caption: str, most: float = 1.0) -> str:
    """Named values as bars; `most` is a full one, and None keeps the place of a value that is to come."""

    def bar(name: str, value: float | None) -> str:
        kind = KINDS.get(name, "ceiling" if name == "Your real photos" else "other")
        width = 100 * min(max((value or 0.0) / most, 0.0), 1.0)
        number = "–" if value is None else f"{value:.2f}"
        return (
            f'<div class="m3-score"><span>{escape(name)}</span><div class="m3-track"><div class="m3-{kind}" '
            f'style="width:{width:.1f}%"></div></div><b>{number}</b></div>'
        )

    drawn = "".join(bar(name, value) for name, value in rows.items())
    return f'<div class="m3-scores"><p>{escape(caption)}</p>{drawn}</div>'


def scale(values: Iterable[float]) -> float:
    """What a full bar stands for where a figure has no largest value: a round number with room above them all."""
    wanted = 1.2 * max(values, default=0.0)
    return next((most for most in ROUND if most >= wanted), float(math.ceil(wanted)))


def shots(pictures: Mapping[str, np.ndarray | None]) -> str:
    """Pictures side by side with a caption each; None keeps the place free."""
    figures = "".join(
        f"<figure><div>{_picture(picture, title)}</div><figcaption>{escape(title)}</figcaption></figure>"
        for title, picture in pictures.items()
    )
    return f'<div class="m3-shots m3-of{len(pictures)}">{figures}</div>'


def _picture(picture: np.ndarray | None, title: str) -> str:
    if picture is None:
        return ""
    return f'<img src="{data_uri(picture, quality=93)}" alt="{escape(title)}">'


def strips(rows: Mapping[str, Sequence[np.ndarray]]) -> str:
    """Rows of small pictures with a title each; they scroll where there is no room."""
    figures = "".join(
        f'<figure><figcaption>{escape(title)}</figcaption><div class="m3-strip" tabindex="0" role="group" '
        f'aria-label="{escape(title)}">'
        + "".join(
            f'<img src="{data_uri(picture, side=256)}" alt="{escape(title)}, {number}">'
            for number, picture in enumerate(pictures, 1)
        )
        + "</div></figure>"
        for title, pictures in rows.items()
        if len(pictures)
    )
    return f'<div class="m3-strips">{figures}</div>'


def grids(columns: Mapping[str, Sequence[np.ndarray]], places: int = 6) -> str:
    """Two grids of pictures side by side with a title each; without pictures, their empty places."""
    figures = ""
    for title, pictures in columns.items():
        cells = [f"<div>{_picture(picture, f'{title}, {i}')}</div>" for i, picture in enumerate(pictures, 1)]
        cells = cells or ["<div></div>"] * places
        figures += (
            f"<figure><figcaption>{escape(title)}</figcaption>"
            f'<div class="m3-grid">{"".join(cells)}</div></figure>'
        )
    return f'<div class="m3-grids">{figures}</div>'


def plot(lines: Mapping[str, Sequence[float]], x: Sequence[float], label: str, x_label: str) -> str:
    """Curves over a common x in one small SVG, with the values in words for who cannot see it."""
    width, height = PLOT
    values = [value for line in lines.values() for value in line]
    if len(x) < 2 or not values:
        return ""
    low, high = min(values), max(values)
    low, high = (low - 0.05, high + 0.05) if high - low < 0.02 else (low, high)
    left, right = min(x), max(x)

    def path(line: Sequence[float]) -> str:
        points = [
            f"{width * (a - left) / (right - left):.1f} {6 + (height - 12) * (high - b) / (high - low):.1f}"
            for a, b in zip(x, line, strict=True)
        ]
        return "M" + " L".join(points)

    curves = "".join(
        f'<path class="m3-{KINDS.get(name, "other")}" d="{path(line)}"/>' for name, line in lines.items()
    )
    legend = "".join(
        f'<span class="m3-key m3-{KINDS.get(name, "other")}">{escape(name)}</span>' for name in lines
    )
    spoken = "; ".join(
        f"{name}: {', '.join(f'{value:.2f}' for value in line)}" for name, line in lines.items()
    )
    return (
        f'<figure class="m3-plot"><figcaption>{escape(label)} {legend}</figcaption>'
        f'<div class="m3-axes"><span class="m3-y"><i>{high:.2f}</i><i>{low:.2f}</i></span>'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)} {escape(spoken)}">{curves}</svg></div>'
        f'<div class="m3-x"><span>{left:g}</span><span>{escape(x_label)}</span><span>{right:g}</span></div>'
        "</figure>"
    )


def comparison_table(
    rows: Sequence[tuple[str, Sequence[tuple[Sequence[np.ndarray], str]]]], columns: Sequence[str]
) -> str:
    """Tasks as rows; each cell has pictures and a caption. Without rows, one that keeps the place."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = ""
    for title, cells in rows or [("Nothing compared yet", [((), "")] * len(columns))]:
        drawn = "".join(
            f'<td><div class="m3-cell{" m3-four" if len(pictures) > 1 else ""}">'
            f"{_small(pictures, f'{title}: {column}')}</div>{escape(caption)}</td>"
            for (pictures, caption), column in zip(cells, columns, strict=True)
        )
        span = f'<th scope="rowgroup" colspan="{len(columns)}">{escape(title)}</th>'
        body += f"<tbody><tr>{span}</tr><tr>{drawn}</tr></tbody>"
    return f'<table class="m3-compare"><thead><tr>{head}</tr></thead>{body}</table>'


def _small(pictures: Sequence[np.ndarray], title: str) -> str:
    return "".join(
        f'<img src="{data_uri(picture, quality=90, side=320)}" alt="{escape(title)}">' for picture in pictures
    )
