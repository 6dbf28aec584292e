"""A loopback proxy that drops, delays, truncates and corrupts what passes, as told and repeatably."""

from __future__ import annotations

import random
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType


@dataclass
class Fault:
    """What goes wrong; may be changed while connections are open.

    Attributes:
        refuse: New connections are cut at once.
        black_hole: Nothing passes any more, and nothing is closed.
        delay: Seconds each piece waits.
        cut_after: Each connection is cut after so many bytes from the server, None for never.
        cut_upload_after: Each connection is cut after so many bytes from the client, None for never.
        corrupt: Probability that a piece has one byte flipped, in either direction.
        faults_left: Cuts and corruptions that will still happen; the network heals afterwards.
    """

    refuse: bool = False
    black_hole: bool = False
    delay: float = 0.0
    cut_after: int | None = None
    cut_upload_after: int | None = None
    corrupt: float = 0.0
    faults_left: int = 1_000_000


class BadNetwork:
    """Forwards connections to a port of this machine, badly.

    Args:
        port: The server's port.
        seed: Which bytes are corrupted.
    """

    def __init__(self, port: int, seed: int = 0) -> None:
        self.fault = Fault()
        self.connections = 0
        self._target = port
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallowed: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        """Cut every open connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _cut(*pair)

    def swallow_all(self) -> None:
        """Let nothing pass any more on the connections that are open now, as a router that was restarted does."""
        with self._lock:
            self._swallowed |= {one for pair in self._pairs for one in pair}

    def __enter__(self) -> BadNetwork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.fault.refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            for source, target, upload in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, target, upload), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, upload: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(2048):
                while self.fault.black_hole or source in self._swallowed:
                    time.sleep(0.02)
                if self.fault.delay:
                    time.sleep(self.fault.delay)
                limit = self.fault.cut_upload_after if upload else self.fault.cut_after
                if limit is not None and passed + len(piece) > limit and self._spend():
                    target.sendall(piece[: max(0, limit - passed)])
                    break
                if self.fault.corrupt and self._random.random() < self.fault.corrupt and self._spend():
                    place = self._random.randrange(len(piece))
                    piece = (
                        piece[:place] + bytes([piece[place] ^ (1 << self._random.randrange(8))]) + piece[place + 1 :]
                    )
                target.sendall(piece)
                passed += len(piece)
        except OSError:
            pass  # the other direction was cut
        _cut(source, target)

    def _spend(self) -> bool:
        with self._lock:
            self.fault.faults_left -= 1
            return self.fault.faults_left >= 0


def _cut(*sockets: socket.socket) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # closed already
        finally:
            one.close()
