"""What Gradio would answer and this app does not, and what it adds to answers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect

# /deep_link writes all that a session's page holds to disk, for whoever knows its name, and nothing deletes it;
# /file=https://... and its older twin /file/https://... fetch from any address for anybody; /process_recording leaves
# what is sent to it lying outside the server's own folder; the other two serve components that are not used here.
CLOSED = re.compile(
    r"/deep_link|/file[=/]/*(?:https?|ftp):|/process_recording|/component_server|/custom_component",
    re.IGNORECASE,
)
UPLOAD = re.compile(r"/upload/?$")  # has a limit of its own, for each file
MOST_BYTES = 32_000_000  # of any other request; a photo that the camera took is the largest part of one, 8 MB
FILES = re.compile(r"/file=")
STATIC = re.compile(r"/static/[^/]+$")


class Gate:
    """ASGI middleware: 404 for what is closed, 413 for what is too large; no copy of a face is kept on its way."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif CLOSED.search(scope["path"]):
            await _refuse(send, 404)
        else:
            if FILES.search(scope["path"]) and not STATIC.search(scope["path"]):
                send = _unstored(send)
            if not UPLOAD.search(scope["path"]):
                receive = _metered(receive)
            try:
                await self.app(scope, receive, send)
            except _TooLarge:
                await _refuse(send, 413)
            except ClientDisconnect:  # who sends a file may close the page meanwhile
                pass


class _TooLarge(Exception):
    """More was sent than any of the page's requests brings."""


def _metered(receive: Any) -> Any:
    """Pass on what a request brings, and break off where that is too much: all of it would be kept in memory."""
    total = 0

    async def metered() -> dict[str, Any]:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MOST_BYTES:
            raise _TooLarge
        return message

    return metered


def _unstored(send: Any) -> Any:
    """Pass on an answer that neither browsers nor proxies may keep: deleting a face would not reach them."""

    async def unstored(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [each for each in message.get("headers", []) if each[0].lower() != b"cache-control"]
            message = message | {"headers": [*kept, (b"cache-control", b"no-store")]}
        await send(message)

    return unstored


async def _refuse(send: Any, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
