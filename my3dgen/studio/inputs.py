"""Input components that hand over what was sent untouched, and a server that fetches nothing for a client."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.component_meta import ComponentMeta
from gradio.exceptions import InvalidPathError


def _paths(self: Any, payload: Any) -> str | list[str] | None:
    if payload is None:
        return None
    files = getattr(payload, "root", payload)
    return [file.path for file in files] if isinstance(files, list) else files.path


async def _fetch_nothing(*_: Any, **__: Any) -> Any:
    raise gr.Error(
        "This server fetches nothing: send the file itself, not its address.", print_exception=False
    )


# Gradio fetches an address that is sent in place of a file, to any component at all; no function of ours is asked
# before. There is no setting for it.
processing_utils.async_ssrf_protected_download = _fetch_nothing


_check = processing_utils._check_allowed


def _check_allowed(*values: Any, **options: Any) -> None:
    try:
        _check(*values, **options)
    except InvalidPathError:
        raise gr.Error(
            "That file is no longer on the server; choose it again.", print_exception=False
        ) from None


# A page may still hold a file that went with its session. Gradio would log it, and its name with it.
processing_utils._check_allowed = _check_allowed


def _as_sent(self: Any, payload: Any) -> Any:
    return payload


def _asking_for_files(component: Any) -> Any:
    """A component that answers what is no file with a sentence. Gradio would log it, and its name with it."""
    model = component.data_model

    @classmethod
    def model_validate(cls: type, *values: Any, **options: Any) -> Any:
        try:
            return super(checked, cls).model_validate(*values, **options)
        except ValueError:
            raise gr.Error(
                "A file is sent as a file: in Python, gradio_client.handle_file(path), not the path alone.",
                print_exception=False,
            ) from None

    checked = type(model.__name__, (model,), {"model_validate": model_validate, "__module__": __name__})
    component.data_model = checked
    return component


def _variant(parent: type, preprocess: Any) -> type:
    """`parent` under its own name (that is how the browser knows it) with another way in.

    Not a plain subclass: Gradio's metaclass would write a .pyi file beside this one.
    """
    body = {"preprocess": preprocess, "__module__": __name__, "EVENTS": parent.EVENTS}
    return ABCMeta.__new__(ComponentMeta, parent.__name__, (parent,), body)


# Gradio would decode pictures itself and answer a bad one with its decoder's exception. Our own reader knows
# more formats and says in one sentence what is wrong, so these two pass paths (Gradio has already checked
# that they are uploads). A dropdown's choices and a slider's range change while the page is open (and a server that forgot
# the page knows only the first ones), and a number may be none; our own functions check them.
_File = _variant(gr.File, _paths)
_Image = _variant(gr.Image, _paths)
Dropdown = _variant(gr.Dropdown, _as_sent)
Number = _variant(gr.Number, _as_sent)
Slider = _variant(gr.Slider, _as_sent)


def File(*values: Any, **options: Any) -> gr.File:  # noqa: N802 (it stands for the component)
    """gr.File, whose value is a path or a list of paths."""
    return _asking_for_files(_File(*values, **options))


def Image(*values: Any, **options: Any) -> gr.Image:  # noqa: N802 (it stands for the component)
    """gr.Image, whose value is a path."""
    return _asking_for_files(_Image(*values, **options))
