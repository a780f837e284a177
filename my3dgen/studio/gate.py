"""What Gradio would answer and this app does not: saved pages of visitors, and other servers' files."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

# /deep_link writes all that a session's page holds to disk, for whoever knows its name, and nothing deletes it;
# /file=https://... and its older twin /file/https://... fetch from any address for anybody.
CLOSED = re.compile(r"/deep_link|/file[=/]/*(?:https?|ftp):", re.IGNORECASE)


class Gate:
    """ASGI middleware: 404 for what is closed."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and CLOSED.search(scope["path"]):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)
