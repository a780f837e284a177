"""Editing what somebody does or how old they look: along a direction of the prior, as far as can be
with what the person's own moments span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from my3dgen.errors import My3DGenError, number
from my3dgen.evaluation.metrics import embed, identity_similarity
from my3dgen.faces import Face
from my3dgen.models.attributes import load_attributes
from my3dgen.personal.anchors import Anchors
from my3dgen.personal.directions import Direction, directions
from my3dgen.personal.hull import Hull, HullOptions, fit
from my3dgen.personal.images import from_uint8, to_uint8
from my3dgen.personal.slices import clock
from my3dgen.progress import ProgressCallback
from my3dgen.tasks.result import TaskResult, beside_photo, known_faces, networks, one_face
from my3dgen.tasks.whose import anchors_of

POLICIES = ("project", "stop", "continue")
STRENGTHS = tuple(round(float(s), 1) for s in np.linspace(-2, 2, 11))  # the published slider
LIMIT = 4.0  # standard deviations; beyond it there are no faces
# anchors that are alike to this share of the largest difference among them count as one
RESOLUTION = 0.05


def edit(
    prior,
    photo,
    attribute: str = "smile",
    strength: float = 1.0,
    policy: str = "project",
    steps: int | None = None,
    progress: ProgressCallback | None = None,
    references: Sequence[Face] | None = None,
    anchors: Anchors | None = None,
) -> TaskResult:
    """Reconstruct a photo and change one attribute of it.

    Args:
        photo: a Face or anything `prepare` reads, or the number of an anchor, which needs no fit.
        attribute: "smile", "age", "beard" or "hair_dark".
        strength: about in standard deviations of the attribute among random faces (`directions.REACH`); -2 to 2 is
            the slider, at most +-4.
        policy: what happens at the edge of the person's hull (see `edited`); without an adapter it has no effect.
        steps: of the fit; None takes the prior's default.
        references: other photos of the person for the identity score; without them the photo itself, and for
            an anchor's number the unedited reconstruction.
        anchors: those that a number counts in; default the adapter's.

    Returns:
        TaskResult: "image" (edited) and "reconstruction" (unedited), both from the photo's camera; `frames` are
        the slider's pictures at extra["strengths"] with extra["scores"] (the attribute scorer) and
        extra["id_sims"]; "strip" is all of them in one picture. figures: id_sim (edited against the references),
        score (of "image"), perceptual (reconstruction against the photo; not for an anchor's number), seconds.

    Raises:
        My3DGenError: for an unknown attribute or policy, a strength out of range, or a photo that cannot be used.
    """
    start = clock()
    check(attribute, strength, policy)
    numbered = isinstance(photo, (int, np.integer))
    known = known_faces(references, beside=not numbered)
    if not numbered:
        photo = one_face(photo, prior.kind)
    # They may have to be found. Before the fit: stopping there must not lose it, nor a misspelt name cost it.
    directions(prior, [attribute], progress)
    load_attributes()
    face, ws, camera = reconstruct(prior, photo, steps, progress, anchors)
    wanted = sorted({*STRENGTHS, 0.0, float(strength)})
    latents = [edited(prior, ws, attribute, s, policy) for s in wanted]
    pictures = dict(zip(wanted, render_pictures(prior, latents, camera), strict=True))
    image, reconstruction = pictures[float(strength)], pictures[0.0]
    photos = known or ([] if face is None else [face])
    against = photos or [reconstruction]
    frames = tuple(pictures[s] for s in STRENGTHS)
    figures = {
        "id_sim": identity_similarity([image], against),
        "score": score_pictures([image], attribute)[0],
        "seconds": 0.0,
    }
    if face is not None:
        figures |= beside_photo(reconstruction, face)
    cosines = (embed(frames) @ embed(against).T).max(1).values
    extra = {
        "attribute": attribute,
        "policy": policy,
        "strengths": list(STRENGTHS),
        "scores": [round(s, 4) for s in score_pictures(frames, attribute)],
        "id_sims": [round(float(c), 4) for c in cosines],
        "references": "photos" if photos else "reconstruction",
    }
    strip = np.concatenate(frames, 1)
    images = {"image": image, "reconstruction": reconstruction, "strip": strip}
    figures["seconds"] = round(clock() - start, 2)
    result_ws = latents[wanted.index(float(strength))]
    return TaskResult(
        images,
        figures,
        result_ws,
        camera,
        networks(figures) | {"score": load_attributes().name},
        frames,
        extra,
    )


def edited(
    prior, ws: Tensor, attribute: str, strength: float, policy: str = "project", beyond: bool = True
) -> Tensor:
    """A latent with one attribute changed; cheap, a slider's step.

    On the pretrained prior: along the attribute's direction. On a personalized one, the change is first made with
    the person's own moments, in the space of their anchors' weights: a + theta * gamma, where gamma is the
    direction's projection to what the anchors span (MyStyle). What they cannot express, such
    as years they have not lived, comes from the prior's direction, so that the attribute always changes by `strength`.

    Args:
        ws: [L, w_dim], on or near the person's hull.
        strength: in units of `directions.REACH` standard deviations of the attribute, at most +-4.
        policy: of the change that the anchors can express, at the hull's edge (weights of -beta): "project" to the nearest
            point of the hull, "stop" there, or "continue" across it. What is then missing is added as above.
        beyond: False leaves out what the person's anchors cannot express.

    Returns:
        [L, w_dim]; `ws` itself at strength 0.
    """
    check(attribute, strength, policy)
    prior.require_latent(ws)
    direction = directions(prior, [attribute])[attribute]
    step, probe = direction.step.to(ws), direction.probe.to(ws)
    if not strength:
        return ws.clone()
    if prior.anchors is None or len(prior.anchors) < 2:
        return ws + strength * step
    inside = hull_shift(
        Hull(prior.anchors, HullOptions.for_prior(prior).beta), ws, direction, strength, policy
    )
    reached = float(inside.mean(0) @ probe)  # in strengths
    return ws + inside + (strength - reached if beyond else 0.0) * step


def hull_shift(hull: Hull, ws: Tensor, direction: Direction, strength: float, policy: str) -> Tensor:
    """How far a latent [L, w_dim] moves inside the dilated hull for a strength of a direction, [L, w_dim]."""
    alpha = hull.alpha_of(ws)
    goal = alpha + strength * projected(hull, direction)
    if policy == "stop":
        change = goal - alpha
        room = alpha + hull.beta  # how much each weight may fall
        falling = change < -1e-9
        share = min(1.0, float((room[falling] / -change[falling]).min())) if bool(falling.any()) else 1.0
        goal = alpha + max(share, 0.0) * change
    elif policy == "project":
        goal = hull.alpha_of(hull.at(goal))
    return (hull.at(goal) - hull.at(alpha)).to(ws)


def projected(hull: Hull, direction: Direction) -> Tensor:
    """gamma [N], sum 0: the weights whose change of w comes nearest to strength 1 of a direction.

    Least squares over the anchors' differences from their mean; the published formula uses the anchors themselves,
    which changes the weights' sum and with it the latent's distance from the prior's origin.
    """
    rows = hull.anchors.mean(1).double()
    rows = rows - rows.mean(0)
    step = direction.step.to(rows)
    gamma = torch.linalg.pinv(rows.T, rtol=RESOLUTION) @ step
    return (gamma - gamma.mean()).float()


def check(attribute: str, strength: float, policy: str) -> None:
    """Raises `My3DGenError` for what cannot be edited."""
    if policy not in POLICIES:
        raise My3DGenError(f"no policy {policy!r}; the policies are {', '.join(POLICIES)}")
    number("strength", strength, -LIMIT, LIMIT)


def reconstruct(
    prior,
    photo,
    steps: int | None = None,
    progress: ProgressCallback | None = None,
    anchors: Anchors | None = None,
) -> tuple[Face | None, Tensor, Tensor]:
    """A photo as (face, ws [L, w_dim], camera [25]); an anchor's number has no face and needs no fit.

    Raises:
        My3DGenError: for a number without such an anchor, or a photo that cannot be used.
    """
    if isinstance(photo, (int, np.integer)) and not isinstance(photo, bool):
        known = anchors_of(prior, anchors)
        if not 0 <= photo < len(known):
            raise My3DGenError(f"there is no anchor {photo}; they are numbered 0 to {len(known) - 1}")
        return None, known.ws[int(photo)], known.cameras[int(photo)]
    face = one_face(photo, prior.kind)
    found = fit(prior, face, steps=steps, progress=progress)
    return face, found.ws, found.camera


def render_pictures(prior, latents: Sequence[Tensor], camera: Tensor) -> list[np.ndarray]:
    """Pictures uint8 [H, W, 3] of several latents [L, w_dim] from one camera [25]."""
    return list(to_uint8(prior.render(torch.stack(list(latents)), camera)))


@torch.no_grad()
def score_pictures(pictures: Sequence[np.ndarray], attribute: str) -> list[float]:
    """The attribute scorer on crops uint8 [H, W, 3]."""
    scorer = load_attributes()
    return [float(scorer.score(from_uint8(p)[None])[attribute]) for p in pictures]
