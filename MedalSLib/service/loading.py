"""The server's one engine: loaded in the background, so that the server answers while a large model is read."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from MedalSLib.engine.interface import Engine, EngineInfo, Session
from MedalSLib.errors import MedalSError
from MedalSLib.service.logs import log_exception
from MedalSLib.service.protocol import error_kind
from MedalSLib.service.refusal import Refusal

EngineFactory = Callable[[], Engine]


class LoadedEngine:
    """Loads an engine in a thread and hands it out when it is there.

    Args:
        factory: Makes the engine.
    """

    def __init__(self, factory: EngineFactory) -> None:
        self._factory = factory
        self._engine: Engine | None = None
        self._info: EngineInfo | None = None
        self._failure: Refusal | None = None
        self._opening = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to load."""
        self._thread = threading.Thread(target=self._load, name="medals-loader", daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            engine = self._factory()
            self._info = engine.info()
            self._engine = engine
        except MedalSError as error:
            self._failure = Refusal(503, error_kind(error), error.cause, error.remedy)
            log_exception("engine_not_loaded", error)
        except BaseException as error:  # said to every client instead of dying in a thread
            self._failure = Refusal(
                503,
                "model",
                f"The server's engine could not be loaded ({type(error).__name__}).",
                "Ask the server's administrator to look at its log.",
            )
            log_exception("engine_not_loaded", error)

    @property
    def state(self) -> str:
        """Return "loading", "ready" or "failed"."""
        if self._engine is not None:
            return "ready"
        return "failed" if self._failure is not None else "loading"

    def info(self) -> EngineInfo:
        """Return what is loaded.

        Raises:
            Refusal: Still loading (with Retry-After), or it failed.
        """
        if self._info is None or self._engine is None:
            raise self._not_ready()
        return self._info

    def open_session(self, array: np.ndarray, affine: np.ndarray, modality: str | None) -> Session:
        """Open a session of the engine, one at a time.

        Raises:
            Refusal: The engine is not loaded.
            MedalSError: The engine does not take the image.
        """
        if self._engine is None:
            raise self._not_ready()
        with self._opening:
            return self._engine.open_session(array, affine, modality)

    def close(self) -> None:
        """Free the engine."""
        if self._thread is not None:
            self._thread.join(1.0)
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _not_ready(self) -> Refusal:
        if self._failure is not None:
            return refusal_copy(self._failure)
        return Refusal(503, "loading", "The server is still loading its model.", "Try again in a moment.", 1.0)


def refusal_copy(refusal: Refusal) -> Refusal:
    """Return a fresh refusal: one exception object must not be raised in several threads."""
    return Refusal(refusal.status_code, refusal.kind, refusal.cause, refusal.remedy, refusal.retry_after)
