"""The one family of errors a user can meet, and the checks of numbers that many of them come from."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any


class My3DGenError(Exception):
    """A mistake the user can mend: the message says what was got, what was expected and what to do.

    The app shows the message as a `gr.Error`, the command line as one line with exit status 2.
    """


MOST = 2**31 - 1  # a larger number is a slip, and random generators take no seed of more than 64 bits


def shown(value: Any) -> str:
    """A value that is not what was expected, as messages quote it: at most 80 characters."""
    return repr(value)[:80]


def whole(name: str, value: Any, least: int = 0, most: int = MOST) -> int:
    """A whole number somebody gave, as an int. 2.0 is one, too: pages and JSON send such.

    Raises:
        My3DGenError: where it is something else, or not from `least` to `most`.
    """
    found = number(name, value, least, most)
    if found != int(found):
        raise My3DGenError(f"{name} is {value}; it must be a whole number from {least} to {most}.")
    return int(found)


def _said(value: Any) -> str:
    """A value in a message, without quotes."""
    try:
        return str(value)[:40]
    except ValueError:  # a whole number of thousands of digits
        return "far too large"


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number somebody gave, as a float.

    Raises:
        My3DGenError: where it is something else, or not from `least` to `most`.
    """
    if value is None:
        raise My3DGenError(f"{name} is empty; it must be a number from {least} to {most}.")
    if not isinstance(value, Real) or isinstance(value, bool) or not least <= value <= most:
        raise My3DGenError(f"{name} is {_said(value)}; it must be a number from {least} to {most}.")
    return float(value)


def require_numbers(
    options: Any, whole: Mapping[str, int] | None = None, real: Mapping[str, float] | None = None
) -> None:
    """Check fields of options, given by name with the least value that makes sense: whole numbers and real ones.

    Raises:
        My3DGenError: for the first that is something else.
    """
    for kind, rules, a_number in (("whole number", whole, Integral), ("number", real, Real)):
        for name, least in (rules or {}).items():
            value = getattr(options, name)
            if not isinstance(value, a_number) or isinstance(value, bool) or not least <= value <= MOST:
                raise My3DGenError(
                    f"{name} of {type(options).__name__} is {shown(value)}; it must be a {kind} from {least} to {MOST}."
                )
