"""One image open on a server, from the client's side."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from MedalSLib.engine.interface import Session, box_masks
from MedalSLib.errors import InputError, MedalSError, ServiceError
from MedalSLib.run import Estimate, Progress, ProgressCallback, RunOptions, RunRequest, RunResult, StructureCallback
from MedalSLib.service import protocol
from MedalSLib.service.client_errors import LostError
from MedalSLib.service.encoding import canonical_image
from MedalSLib.service.image_upload import ImageUpload
from MedalSLib.service.remote_run import RemoteRun
from MedalSLib.service.run_messages import encode_request
from MedalSLib.service.transport import Patience, Transport
from MedalSLib.volume.mask import BoxMask

LOG = logging.getLogger("medals.client")
GOODBYE_SECONDS = 2.0
OPENING_SECONDS = 600.0
"""How long a server may take to open an image that it has, or to estimate a run, while it says that it does."""
BEAT_SECONDS = 10.0
SENDING = "sending the image"


class RemoteSession(Session):
    """An image that is open on a server; see `MedalSLib.engine.interface.Session`.

    Args:
        transport: The server.
        limits: What it accepts.
        array_kji: Intensities (K, J, I).
        affine_ras: 4x4, index (i, j, k) to RAS millimetres.
        modality: Modality, or None to guess.
        compression: Level of zlib.

    Raises:
        InputError: Not an image that can be sent.
    """

    def __init__(
        self,
        transport: Transport,
        limits: protocol.Limits,
        array_kji: np.ndarray,
        affine_ras: np.ndarray,
        modality: str | None,
        compression: int,
    ) -> None:
        self._transport = transport
        self.id = uuid.uuid4().hex
        image = canonical_image(array_kji)
        if image.nbytes > limits.image_bytes:
            size, most = image.nbytes / 2**20, limits.image_bytes / 2**20
            raise InputError(
                f"The image has {size:.1f} MiB, the server takes {most:.1f} MiB.",
                "Crop the image, or ask the server's administrator for a larger limit.",
            )
        self._upload = ImageUpload(image, self._transport, self.id, compression)
        self._request = protocol.SessionRequest(self._upload.digest, _affine_rows(affine_ras), modality)
        self._opening = threading.Lock()
        self.shape = self._upload.shape
        self.modality = modality or ""
        self.warnings: tuple[str, ...] = ()
        self.closed = False

    def open(
        self, on_progress: ProgressCallback, cancel: threading.Event | None, patience: Patience | None = None
    ) -> None:
        """Make sure that the server has the image and the session, sending what it lacks.

        Args:
            on_progress: Told how much of the image is sent.
            cancel: Ends it.
            patience: The time budget of the call that needs it; None for one of its own.

        Raises:
            InputError: The engine does not take the image.
            ServiceError: The server cannot be reached or refuses.
            CancelledError: `cancel` was set.
        """
        patience = patience or self._patience()
        with self._opening:
            for _ in range(self._transport.lost_tries):
                try:
                    status = self._transport.request(
                        "PUT",
                        f"/v1/sessions/{self.id}",
                        message=self._request,
                        affinity=self.id,
                        cancel=cancel,
                        patience=patience,
                        startup_seconds=OPENING_SECONDS,
                    )
                    self.modality = str(status["modality"])
                    self.warnings = tuple(status["warnings"])
                    self._transport.session_opened()
                    return
                except LostError as error:
                    LOG.info("sending the image: %s", error.cause)
                try:
                    self._upload.send(lambda share: on_progress(Progress(SENDING, share)), cancel, patience)
                except LostError as error:
                    LOG.info("the server lost the image while it was sent: %s", error.cause)
            raise self._transport.always_lost()

    def run(
        self,
        request: RunRequest,
        *,
        on_progress: ProgressCallback | None = None,
        on_structure: StructureCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunResult:
        """Segment on the server; see `MedalSLib.engine.interface.Session.run`.

        A run that was lost with its server, session or connection is begun again; the same seed gives the same masks.

        Args:
            request: What is asked.
            on_progress: Told how far it is, the waiting for the server included.
            on_structure: Called with each structure as soon as its mask is final.
            cancel: Set it to stop; the server stops within one patch.

        Raises:
            ServiceError: The server cannot be reached or refuses; call again when it is back.
        """
        message = encode_request(request, self.shape, on_structure is not None)
        report = _never_back(on_progress or silent)
        patience = self._patience()

        def work() -> RunResult:
            run = RemoteRun(self._transport, self.id, self.shape, report, on_structure, cancel, patience)
            return run.finish(message)

        return self._recovering(work, report, cancel, patience)

    def estimate(
        self,
        prompts: Sequence[str],
        masks: Mapping[str, np.ndarray | BoxMask] | None = None,
        options: RunOptions | None = None,
    ) -> Estimate:
        """Say what `segment` with the same arguments will cost on the server.

        Args:
            prompts: Names or phrases.
            masks: Spatial prompts by name, on the image's grid.
            options: Choices of the run.

        Raises:
            ServiceError: The server cannot be reached or refuses.
        """
        request = RunRequest(tuple(prompts), box_masks(masks), options=options or RunOptions())
        message = encode_request(request, self.shape)

        def ask() -> Estimate:
            path = f"/v1/sessions/{self.id}/estimate"
            answer = self._transport.request(
                "POST", path, message=message, affinity=self.id, patience=patience, startup_seconds=OPENING_SECONDS
            )
            return protocol.from_json(Estimate, answer)

        patience = self._patience()
        return self._recovering(ask, silent, None, patience)

    def close(self) -> None:
        """Free the image on the server; a server that cannot be told frees it when the lease ends."""
        if self.closed:
            return
        self.closed = True
        try:
            self._transport.request("DELETE", f"/v1/sessions/{self.id}", affinity=self.id, patience=GOODBYE_SECONDS)
        except MedalSError as error:
            LOG.info("the session was not closed on the server: %s", error.cause)

    def beat(self) -> None:
        """Tell the server that this client is still there; one try, because the next beat comes soon."""
        try:
            self._transport.request(
                "PUT", f"/v1/sessions/{self.id}/lease", affinity=self.id, patience=0.0, try_seconds=BEAT_SECONDS
            )
        except MedalSError as error:
            LOG.debug("heartbeat: %s", error.cause)

    def _patience(self) -> Patience:
        return Patience(self._transport.options.patience_seconds)

    def _recovering(
        self, work: Callable[[], Any], report: ProgressCallback, cancel: threading.Event | None, patience: Patience
    ) -> Any:
        """Do something that needs the session, and open it again whenever the server has lost it."""
        if self.closed:
            raise ServiceError("This image was closed.", "Open it again.")
        for _ in range(self._transport.lost_tries):
            try:
                return work()
            except LostError:
                LOG.info("the server lost the session; opening it again")
            self.open(report, cancel, patience)
        raise self._transport.always_lost()


def silent(_: Progress) -> None:
    """Show no progress."""


def _never_back(callback: ProgressCallback) -> ProgressCallback:
    """Return a callback that keeps `fraction` from falling when a lost run begins again."""
    furthest = 0.0

    def report(progress: Progress) -> None:
        nonlocal furthest
        sending = progress.stage == SENDING
        furthest = max(furthest, 0.0 if sending else progress.fraction)
        callback(Progress(progress.stage, furthest, progress.patch, progress.patches, progress.seconds_left))

    return report


def _affine_rows(affine_ras: np.ndarray) -> Any:
    affine = np.asarray(affine_ras, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InputError("The image's affine is not a finite 4 x 4 matrix.", "Give index (i, j, k) to RAS millimetres.")
    return tuple(tuple(float(value) for value in row) for row in affine)
