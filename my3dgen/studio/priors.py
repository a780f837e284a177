"""Which pretrained priors the page offers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from my3dgen.errors import My3DGenError


@dataclass(frozen=True)
class Offer:
    """One prior a visitor can choose."""

    name: str  # as the catalogue (or MY3DGEN_PRIOR) names it
    title: str
    about: str  # one or two sentences


OFFERS = (
    Offer(
        "heads",
        "heads",
        "Our own small prior. It has only ever seen rendered synthetic people, so real faces come out "
        "as their nearest synthetic relatives. It needs no network and no GPU.",
    ),
    Offer(
        "ffhq",
        "ffhq (NVIDIA)",
        "EG3D's prior for real photos of people. Downloaded on first use; NVIDIA's non-commercial licence "
        "applies.",
    ),
    Offer(
        "cats",
        "cats (NVIDIA)",
        "EG3D's prior for cats. Downloaded on first use; NVIDIA's non-commercial licence applies.",
    ),
)


def offered() -> list[Offer]:
    """The catalogue's priors, and the one the person who runs this server chose by MY3DGEN_PRIOR."""
    chosen = os.environ.get("MY3DGEN_PRIOR", "")
    if chosen and chosen not in [offer.name for offer in OFFERS]:
        own = Offer(chosen, Path(chosen).stem, "A prior of this server's owner.")
        return [own, *OFFERS]
    return list(OFFERS)


def default() -> str:
    """The prior that is used where nobody chose."""
    from my3dgen.priors.catalogue import default_prior

    return default_prior()


def checked(name: Any) -> str:
    """The name of a prior a client sent (empty: the default); it can only be one that is offered."""
    if not name or name == "default":
        return default()
    names = [offer.name for offer in offered()]
    if name not in names:
        raise My3DGenError(
            f"There is no prior called {str(name)[:40]!r} here; choose one of: {', '.join(names)}."
        )
    return name


def about(name: str) -> Offer:
    """What to tell about a prior."""
    return next(offer for offer in offered() if offer.name == name)
