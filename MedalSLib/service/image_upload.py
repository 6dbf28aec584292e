"""Sending an image: only the chunks the server lacks, several at once, compressed as they go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from MedalSLib.errors import CancelledError
from MedalSLib.service import protocol
from MedalSLib.service.encoding import array_bytes, digest_of, encode_chunk
from MedalSLib.service.transport import POLL_SECONDS, Patience, Transport

UPLOADS_AT_ONCE = 3

UploadProgress = Callable[[float], None]
"""Called with the share of the image the server has, 0..1."""


class ImageUpload:
    """An image under its digest, and its upload.

    Args:
        array: Canonical image (see `encoding.canonical_image`).
        transport: The server.
        affinity: Session the image is sent for.
        level: Compression level of zlib, 0 to store.
    """

    def __init__(self, array: np.ndarray, transport: Transport, affinity: str, level: int) -> None:
        self._array = array
        self._transport = transport
        self._affinity = affinity
        self._level = level
        self.digest = digest_of(array)
        self.shape = (int(array.shape[0]), int(array.shape[1]), int(array.shape[2]))

    def send(self, report: UploadProgress, cancel: threading.Event | None, patience: Patience) -> None:
        """Send what the server lacks; what it got in an earlier, broken try is not sent again.

        Args:
            report: Told how much the server has.
            cancel: Ends the sending.
            patience: The call's time budget, renewed by each chunk that arrived.

        Raises:
            ServiceError: Refused, or no answer.
            CancelledError: `cancel` was set.
        """
        header = protocol.ImageHeader(self._array.dtype.str, self.shape)
        status = self._transport.request(
            "PUT",
            f"/v1/images/{self.digest}",
            message=header,
            affinity=self._affinity,
            cancel=cancel,
            patience=patience,
        )
        chunks = int(status["chunks"])
        missing = [int(index) for index in status["missing"]]
        report(1.0 - len(missing) / chunks)
        self._send_chunks(missing, int(status["chunk_bytes"]), chunks, report, cancel, patience)

    def _send_chunks(
        self,
        missing: Sequence[int],
        chunk_bytes: int,
        chunks: int,
        report: UploadProgress,
        cancel: threading.Event | None,
        patience: Patience,
    ) -> None:
        stop = threading.Event()
        pool = ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="medals-upload")
        try:
            waiting: set[Future[Any]] = {
                pool.submit(self._send_chunk, index, chunk_bytes, stop, patience) for index in missing
            }
            while waiting:
                done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                if done:
                    report(1.0 - len(waiting) / chunks)
                if cancel is not None and cancel.is_set():
                    raise CancelledError()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _send_chunk(self, index: int, chunk_bytes: int, stop: threading.Event, patience: Patience) -> None:
        if stop.is_set():
            return
        start = index * chunk_bytes
        chunk = array_bytes(self._array)[start : start + chunk_bytes]
        self._transport.request(
            "PUT",
            f"/v1/images/{self.digest}/chunks/{index}",
            data=encode_chunk(chunk, self._array.dtype.itemsize, self._level),
            affinity=self._affinity,
            cancel=stop,
            patience=patience,
        )
        patience.renew()
