"""The one place where errors become what a visitor sees."""

from __future__ import annotations

import functools
import html
import inspect
import logging
import re
import traceback
from collections.abc import Callable
from typing import Any

import gradio as gr

from my3dgen.errors import My3DGenError
from my3dgen.studio.registry import upload_root

log = logging.getLogger("my3dgen.studio")
UNEXPECTED = "Something went wrong on the server. Nothing you did is lost: please try once more."


def guarded(function: Callable) -> Callable:
    """Wrap an event handler (a function or a generator function) so that it only ever raises gr.Error."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from function(*args, **kwargs)
            except Exception as error:
                raise visible(error) from None
    else:

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                raise visible(error) from None

    return wrapper


def visible(error: Exception) -> gr.Error:
    """The sentence a visitor gets; what was unexpected is logged without anything personal."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, My3DGenError):
        return gr.Error(sentence(error), print_exception=False)
    # The message may quote a file name, and locals may hold a face: only where and what kind.
    where = " <- ".join(
        f"{f.name} ({f.filename}:{f.lineno})" for f in reversed(traceback.extract_tb(error.__traceback__))
    )
    log.error("%s in %s", type(error).__name__, where)
    return gr.Error(UNEXPECTED, print_exception=False)


def sentence(error: My3DGenError) -> str:
    """The error's text without the server's folders (a visitor knows their files by name)."""
    folders = re.escape(str(upload_root())) + r"(?:/[0-9a-f]{16,}|/my3dgen-[0-9a-f]+)*/"
    return html.escape(re.sub(folders, "", str(error)), quote=False)
