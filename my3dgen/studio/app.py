"""The app: tabs, endpoints, and how it is served."""

from __future__ import annotations

import atexit
import logging
import os
import signal
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from my3dgen.studio import (
    api,
    folders,
    service,
    tab_about,
    tab_compare,
    tab_edit,
    tab_inpainting,
    tab_interpolation,
    tab_inversion,
    tab_look,
    tab_new_looks,
    tab_personalize,
    tab_selfies,
    tab_upscale,
)
from my3dgen.studio.gate import Gate
from my3dgen.studio.guard import guarded
from my3dgen.studio.page import PRIVATE, Page
from my3dgen.studio.registry import Registry
from my3dgen.studio.theme import CSS, theme

CACHE_SECONDS = (300, 2 * 3600)  # how often Gradio's own cache is cleaned, and of files how old
UPLOAD_LIMIT = "100mb"  # one file
HEAD = '<meta name="referrer" content="no-referrer">'
KEEP_IN_SIGHT = (Path(__file__).parent / "static" / "tabs.js").read_text()
TASK_TABS = {
    "Inversion": tab_inversion,
    "Inpainting": tab_inpainting,
    "Super-resolution": tab_upscale,
    "Interpolation": tab_interpolation,
    "New looks": tab_new_looks,
    "Smile & age": tab_edit,
    "Compare": tab_compare,
}
TITLE = (
    '<header class="m3-header"><h1>My3DGen</h1>'
    "<p>Your own face in 3D from a few selfies, beside what the pretrained model makes of you.</p></header>"
)


def build() -> gr.Blocks:
    """The whole page, with its endpoints."""
    page = Page()
    gr.set_static_paths([Path(__file__).parent / "static"])  # wherever the server was started
    with gr.Blocks(
        title="My3DGen", analytics_enabled=False, delete_cache=CACHE_SECONDS, fill_width=False
    ) as demo:
        gr.HTML(TITLE, apply_default_css=False)
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as page.tabs:
            with gr.Tab("Selfies", id="selfies"):
                tab_selfies.build(page)
            with gr.Tab("Personalize", id="personalize"):
                tab_personalize.build(page)
            with gr.Tab("Look around", id="look") as look:
                tab_look.build(page, look)
            for title, module in TASK_TABS.items():
                with gr.Tab(title, id=title.lower()) as tab:
                    module.build(page, tab)
            with gr.Tab("About", id="about"):
                tab_about.build(page)
        with gr.Row(elem_classes="m3-footer"):
            gone = gr.HTML("", elem_id="deleted")
            delete = gr.Button(
                "Delete my data", variant="stop", size="sm", elem_id="delete", scale=0, min_width=160
            )
        # never queued: deleting must work also where others wait
        # and what still waits for its turn must not begin afterwards, with the photos that it was asked for
        deleted = delete.click(
            _delete, None, gone, show_progress="hidden", queue=False, cancels=page.changes, **PRIVATE
        )
        # what it said is no longer true once there is something again
        page.follow(gone, lambda session: "" if session.filled else gr.skip())
        page.connect(demo.load, deleted)
        demo.load(None, js=KEEP_IN_SIGHT)
        demo.unload(_left)
        api.build()
    # api_open would let calls past the queue and its limits; all of ours go through it, /gradio_api/call/... too
    demo.queue(default_concurrency_limit=4, max_size=64, api_open=False)
    return demo


def launch_options() -> dict[str, Any]:
    """How the app is served: nothing leaves it, nothing is recorded, no two visitors share a session.

    MCP stays off whatever the environment asks: Gradio runs all queued MCP calls in one session, which
    would hand one visitor's face to another.
    """
    return {
        "theme": theme(),
        "css": CSS,
        "head": HEAD,
        "mcp_server": False,
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "footer_links": ["api", "settings"],
        "app_kwargs": {"middleware": [Middleware(Gate)]},
        "max_file_size": UPLOAD_LIMIT,
        "favicon_path": str(Path(__file__).parent / "static" / "favicon.png"),
    }


def main() -> None:
    """Serve until stopped; GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say where."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    service.REGISTRY.tidy()
    atexit.register(_clear)
    signal.signal(signal.SIGTERM, _stop)
    demo = build()
    service.REGISTRY.on_sweep = lambda: forget_pages(demo, service.REGISTRY)
    demo.launch(**launch_options())


def forget_pages(demo: gr.Blocks, registry: Registry) -> None:
    """Let go of what Gradio remembers of pages whose session is gone: the last value of every component, faces too, and the
    names of files."""
    holder = getattr(demo, "state_holder", None)
    if holder is None:  # not served yet
        return
    with holder.lock:
        # not one whose very first request is being set up: it has no time yet
        for secret in [each for each in list(holder.time_last_used) if not registry.knows(each)]:
            holder.session_data.pop(secret, None)
            holder.time_last_used.pop(secret, None)
    for names in demo.temp_file_sets:
        names.difference_update([each for each in list(names) if not Path(each).exists()])


def _stop(*_: Any) -> None:
    """How a Space stops: visitors' data goes too. A fit may be running, so there is no orderly way out."""
    _clear()
    os._exit(0)


def _clear() -> None:
    service.REGISTRY.clear()
    folders.remove_own()


@guarded
def _delete(request: gr.Request) -> str:
    there = service.REGISTRY.delete(request.session_hash)
    text = "Everything of this page is deleted." if there else "This page had nothing to delete."
    text += " What a page held that you closed or reloaded is deleted some minutes after that."
    return f'<p role="status">{text}</p>'


def _left(request: gr.Request) -> None:
    service.REGISTRY.left(request.session_hash)
