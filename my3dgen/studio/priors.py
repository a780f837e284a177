"""Which pretrained priors the page offers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from my3dgen.errors import My3DGenError

OWN = "own"  # what the page calls a file that the server's owner named in MY3DGEN_PRIOR


@dataclass(frozen=True)
class Offer:
    """One prior a visitor can choose."""

    name: str  # as the catalogue names it, or OWN
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
        "EG3D's prior for real photos of people. It needs NVIDIA's file and preferably a GPU; NVIDIA's "
        "non-commercial licence applies.",
    ),
    Offer(
        "cats",
        "cats (NVIDIA)",
        "EG3D's prior for cats. It needs NVIDIA's file and preferably a GPU; NVIDIA's non-commercial "
        "licence applies.",
    ),
)


def offered() -> list[Offer]:
    """The catalogue's priors, and the one the server's owner chose."""
    if _own_file():
        return [Offer(OWN, "this server's own", "A prior chosen by this server's owner."), *OFFERS]
    return list(OFFERS)


def has_own() -> bool:
    """Whether the server's owner chose a file."""
    return bool(_own_file())


def _own_file() -> str:
    chosen = os.environ.get("MY3DGEN_PRIOR", "")
    return "" if chosen in [offer.name for offer in OFFERS] else chosen


def default() -> str:
    """The prior that is used where nobody chose."""
    if chosen := os.environ.get("MY3DGEN_PRIOR", ""):
        return OWN if _own_file() else chosen
    import torch

    return "ffhq" if torch.cuda.is_available() and installed("ffhq") else "heads"


def installed(name: str) -> bool:
    """Whether a prior's file is on this computer (a release: as published, or converted)."""
    from my3dgen.priors import catalogue

    return name not in catalogue.RELEASES or catalogue.installed(name)


def checked(name: Any) -> str:
    """The name of a prior a client sent (empty: the default); it can only be one that is offered."""
    if not name or name == "default":
        return default()
    names = [offer.name for offer in offered()]
    if name not in names:
        choices = ", ".join(names)
        raise My3DGenError(f"There is no prior called {str(name)[:40]!r} here; choose one of: {choices}.")
    return name


def of_adapter(prior_name: str) -> str:
    """Which offered prior an adapter asks for. The name is the file's word: it only chooses from the list."""
    if prior_name in [offer.name for offer in OFFERS]:
        return prior_name
    if _own_file():
        return OWN
    raise My3DGenError(
        f"The adapter was made for a prior called {prior_name[:40]!r}, which this server does not have; "
        "use one that was made for heads, ffhq or cats."
    )


def source(name: str) -> str:
    """What `my3dgen.load_prior` takes for an offered prior."""
    return _own_file() if name == OWN else name


def about(name: str) -> Offer:
    """What to tell about a prior."""
    return next(offer for offer in offered() if offer.name == name)
