"""A server on loopback that hands out files and can fail in the ways real ones do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Files by name, and how to behave; `requests` lists (path, Range, status) of every request."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.requests: list[tuple[str, str | None, int]] = []
        self.ranges = True  # Range is honoured
        self.lengths = True  # Content-Length is sent
        self.etag = '"1"'  # version of the files; "" sends none
        self.kind = "application/octet-stream"  # Content-Type
        self.status = 200  # anything else: an error page with this status
        self.breaks: list[int] = []  # the next answers end after so many bytes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        data = server.files.get(self.path.rpartition("/")[2])
        status = server.status if data is not None else 404
        start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if (version := self.headers.get("If-Range")) and version != server.etag:
            start = 0
        if status == 200 and start:
            status = 206 if start < len(data) else 416
        server.requests.append((self.path, wanted, status))
        self.send_response(status)
        self.send_header("Content-Type", server.kind)
        if server.etag:
            self.send_header("ETag", server.etag)
        body = data[start:] if status in (200, 206) else b"<html>an error page</html>"
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        elif status == 416:
            self.send_header("Content-Range", f"bytes */{len(data)}")
        if server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """A running server."""
    with FileServer(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
