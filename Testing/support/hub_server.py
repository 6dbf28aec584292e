"""A local stand-in for the model hub: listing a repository and sending its files, with faults on request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@dataclass
class Hub:
    """Repositories the server offers, what it was asked, and how it misbehaves.

    Attributes:
        repositories: Content by path, by repository.
        address: `http://...` of the server, for `HF_ENDPOINT`.
        requests: (path, Range header) of every file that was asked for.
        break_after: Close the connection after this many bytes, once for each path in it.
        ranges: Whether Range headers are honored.
        tampered: Paths whose content is sent with a changed first byte.
    """

    repositories: dict[str, dict[str, bytes]]
    address: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    break_after: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    tampered: set[str] = field(default_factory=set)


def listing(files: dict[str, bytes]) -> list[dict[str, object]]:
    """What the hub's tree call returns; files from 100 bytes on are stored as large files."""
    entries: list[dict[str, object]] = [{"type": "directory", "path": "BioLORD-2023-C", "oid": "0", "size": 0}]
    for path, content in files.items():
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "oid": blob, "size": len(content)}
        if len(content) >= 100:
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        entries.append(entry)
    return entries


@contextmanager
def hub_server(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """Serve repositories on the loopback."""
    hub = Hub(repositories)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision/main|tree/abc123)", path):
                files = hub.repositories.get(found[1])
                answer = {"sha": "abc123"} if found[2].startswith("revision") else listing(files or {})
                self.reply(200 if files is not None else 404, json.dumps(answer).encode())
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/abc123/(.+)", path):
                self.send_file(found[2], hub.repositories[found[1]][found[2]])
            else:
                self.reply(404, b"")

        def send_file(self, path: str, content: bytes) -> None:
            wanted = self.headers.get("Range", "")
            hub.requests.append((path, wanted))
            if path in hub.tampered:
                content = bytes([content[0] ^ 1]) + content[1:]
            start = int(re.findall(r"\d+", wanted)[0]) if wanted and hub.ranges else 0
            rest = content[start:]
            self.send_response(206 if wanted and hub.ranges else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: hub.break_after.pop(path, len(rest))])

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing: test output stays readable."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
