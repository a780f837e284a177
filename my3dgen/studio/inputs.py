"""Input components that hand over what was sent untouched."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio_client.utils import is_http_url_like


def _paths(self: Any, payload: Any) -> str | list[str] | None:
    if payload is None:
        return None
    files = getattr(payload, "root", payload)
    return [file.path for file in files] if isinstance(files, list) else files.path


async def _stored(self: Any, path: str | None) -> str | None:
    """Where a file that was sent lies. Gradio would also fetch an address that is given in its place."""
    if is_http_url_like(path):
        raise gr.Error(
            "This server fetches nothing: send the file itself, not its address.", print_exception=False
        )
    return await gr.components.Component.async_move_resource_to_block_cache(self, path)


def _as_sent(self: Any, payload: Any) -> Any:
    return payload


def _variant(parent: type, preprocess: Any) -> type:
    """`parent` under its own name (that is how the browser knows it) with another way in.

    Not a plain subclass: Gradio's metaclass would write a .pyi file beside this one.
    """
    body = {"preprocess": preprocess, "__module__": __name__, "EVENTS": parent.EVENTS}
    body["async_move_resource_to_block_cache"] = _stored
    return ABCMeta.__new__(ComponentMeta, parent.__name__, (parent,), body)


# Gradio would decode pictures itself and answer a bad one with its decoder's exception. Our own reader knows
# more formats and says in one sentence what is wrong, so these two pass paths (Gradio has already checked
# that they are uploads). A dropdown's choices change while the page is open; our own functions check them.
File = _variant(gr.File, _paths)
Image = _variant(gr.Image, _paths)
Dropdown = _variant(gr.Dropdown, _as_sent)
