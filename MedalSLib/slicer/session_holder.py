"""Keeps one engine session open while the image stays the same, so that the engine's caches of it are used again."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np

from MedalSLib.engine.interface import Engine, Session
from MedalSLib.errors import MedalSError
from MedalSLib.run import Progress, ProgressCallback
from MedalSLib.slicer.volumes import VolumeImage


class SessionHolder:
    """Holds the session of the image that was used last."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._engine: Engine | None = None
        self._key: tuple[Any, ...] = ()

    def holds(self, engine: Engine, image: VolumeImage, modality: str | None) -> bool:
        """Whether the open session is of this very image.

        Args:
            engine: The engine.
            image: The image; its signature is compared, not its voxels.
            modality: Modality that the user chose; None to let the engine guess.
        """
        return self._session is not None and self._engine is engine and self._key == (image.signature, modality)

    def session(
        self,
        engine: Engine,
        image: VolumeImage,
        modality: str | None,
        onProgress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Session:
        """Return the image's session, opening it unless it is open; called on the worker thread.

        Args:
            engine: The engine.
            image: The image; its voxels are not looked at if it is open.
            modality: Modality that the user chose; None to let the engine guess.
            onProgress: Called with how much of the image is sent, for an engine that sends images.
            cancel: Ends the sending, and the waiting for a server that is gone.

        Raises:
            MedalSError: The engine cannot open it.
        """
        if self._session is None or not self.holds(engine, image, modality):
            self.close()
            options: dict[str, Any] = {}
            if getattr(engine, "sends_images", False):
                options = {"on_progress": _uploadProgress(onProgress), "cancel": cancel}
            self._session = engine.open_session(image.array, np.array(image.grid.affine_ras), modality, **options)
            self._key, self._engine = (image.signature, modality), engine
        return self._session

    def close(self) -> None:
        """Close the session, if one is open."""
        session, self._session, self._engine = self._session, None, None
        if session is None:
            return
        try:
            session.close()
        except MedalSError as error:  # its server is gone, and the session with it
            logging.info("The engine's session could not be closed: %s", error)


def _uploadProgress(onProgress: ProgressCallback | None) -> ProgressCallback | None:
    """Return a callback that says the uploaded share in words: the progress bar belongs to the computation."""
    if onProgress is None:
        return None
    return lambda event: onProgress(Progress(f"{event.stage}, {event.fraction:.0%}", 0.0))
