"""The image that is open in an engine: one at a time, kept while it is the same image."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np

from MedalSLib.engine.interface import Engine, Progress, ProgressCallback, Session
from MedalSLib.errors import MedalSError
from MedalSLib.slicer.volumes import VolumeImage


class OpenImage:
    """An engine's session of a volume; the engine keeps what it computed of the image as long as it is open."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._engine: Engine | None = None
        self._key: tuple[Any, ...] = ()

    def isOf(self, engine: Engine, image: VolumeImage, modality: str | None) -> bool:
        """Whether this very image is open in this engine."""
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
            onProgress: Told how much of the image is sent, if it has to be.
            cancel: Ends the sending, and the waiting for a server that is gone.

        Raises:
            MedalSError: The engine cannot open it.
        """
        if self._session is None or not self.isOf(engine, image, modality):
            self.close()
            sending: dict[str, Any] = {}
            if getattr(engine, "sends_images", False):
                sending = {"on_progress": _sendingOf(onProgress), "cancel": cancel}
            self._session = engine.open_session(image.array, np.array(image.grid.affine_ras), modality, **sending)
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


def _sendingOf(onProgress: ProgressCallback | None) -> ProgressCallback | None:
    """Return a callback that says the share that is sent in words: the bar belongs to the computation."""
    if onProgress is None:
        return None
    return lambda event: onProgress(Progress(f"{event.stage}, {event.fraction:.0%}", 0.0))
