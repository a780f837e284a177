"""How much the reconstructions of a person's photos look like the person's OTHER photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from my3dgen.evaluation.metrics import embed
from my3dgen.faces import Face
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.images import to_uint8


@torch.no_grad()
def to_other_photos(prior, me, faces: Sequence[Face], anchors: Anchors) -> dict[str, float]:
    """Mean over photos of the largest cosine between a picture and the photos it was not made from.

    Returns "pretrained" and "personalized" (the anchors rendered by either) and "photos" (the photos
    themselves): what a perfect reconstruction would score. With a single photo, that photo is all there is.
    """
    faces = [f for f in faces if not f.refused]
    photos = embed(faces)
    rows = {"photos": photos}
    for who, model in (("pretrained", prior), ("personalized", me)):
        pictures = [to_uint8(model.render(w, c)) for w, c in zip(anchors.ws, anchors.cameras, strict=True)]
        rows[who] = embed(pictures)
    # a mirrored copy has no ending any more, and what is left may have dots
    names = [f.source if f.source.endswith("_mirror") else Path(f.source).stem for f in faces]
    # a photo and its mirrored copy are the same; two files of one name are not
    alone = torch.eye(len(faces), dtype=torch.bool)
    alone |= torch.tensor([[f"{a}_mirror" == b or a == f"{b}_mirror" for b in names] for a in names])
    alone &= ~alone.all()
    out = {}
    for who in ("pretrained", "personalized", "photos"):
        cosine = (rows[who] @ photos.T).masked_fill(alone, -1)
        out[who] = round(float(cosine.max(1).values.mean()), 4)
    return out
