"""Whose anchors a task works with: a person's, or nobody's."""

from __future__ import annotations

from my3dgen.errors import My3DGenError
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.directions import map_z, sample_z
from my3dgen.tasks.look import front

STRANGERS = 8  # random faces that stand in for a person
TRUNCATION = 0.7  # of theirs: the usual one for faces that look right


def anchors_of(prior, anchors: Anchors | None) -> Anchors:
    """The anchors a task is to use: those given, or the personalized prior's.

    Raises:
        My3DGenError: where there are none, or they belong to a prior of other sizes.
    """
    anchors = prior.anchors if anchors is None else anchors
    if anchors is None:
        raise My3DGenError(
            "the pretrained prior has no anchors; pass anchors= (those of the person's adapter)"
        )
    return anchors.require_fit(prior)


def anchors_or_strangers(prior, anchors: Anchors | None) -> tuple[Anchors, str]:
    """The same and what they are called; random faces, the same ones each time, for a pretrained prior without any.

    Raises:
        My3DGenError: where they belong to a prior of other sizes.
    """
    if anchors is not None or prior.anchors is not None:
        return anchors_of(prior, anchors), "the person's"
    mean = prior.w_avg.cpu()
    w = mean + TRUNCATION * (map_z(prior, sample_z(prior, STRANGERS, seed=0)) - mean)
    ws = w[:, None].expand(-1, prior.num_ws, -1).contiguous()
    cameras = front(prior).cpu().expand(STRANGERS, -1).contiguous()
    return Anchors(ws, cameras, tuple(f"random face {i}" for i in range(STRANGERS))), "random faces"
