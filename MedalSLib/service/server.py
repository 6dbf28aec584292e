"""Everything one server holds: its engine, loaded in the background, and the parts that the routes talk to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import numpy as np

from MedalSLib.engine.interface import Engine, EngineInfo, Session
from MedalSLib.errors import MedalSError
from MedalSLib.service.http_errors import HttpError
from MedalSLib.service.keys import ApiKeys
from MedalSLib.service.logs import AuditLog, log_exception
from MedalSLib.service.protocol import LOADING, error_kind
from MedalSLib.service.run_queue import RunQueue
from MedalSLib.service.run_worker import RunWorker
from MedalSLib.service.server_metrics import Metrics
from MedalSLib.service.sessions import Run
from MedalSLib.service.settings import Settings
from MedalSLib.service.store import Store

EngineFactory = Callable[[], Engine]
T = TypeVar("T")
SWEEP_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""Every request is answered within about this time."""
KEPT_ANSWER_SECONDS = 60.0


class LoadedEngine:
    """Loads an engine in a thread and hands it out when it is there: the server answers while a model is read.

    Args:
        factory: Makes the engine.
    """

    def __init__(self, factory: EngineFactory) -> None:
        self._factory = factory
        self._engine: Engine | None = None
        self._info: EngineInfo | None = None
        self._failure: tuple[str, str, str] | None = None  # kind, cause and remedy of a model that cannot be loaded
        self._opening = threading.Lock()
        self._thread = threading.Thread(target=self._load, name="medals-loader", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def _load(self) -> None:
        try:
            engine = self._factory()
            self._info = engine.info()
            self._engine = engine
        except MedalSError as error:
            self._failure = (error_kind(error), error.cause, error.remedy)
            log_exception("engine_not_loaded", error)
        except BaseException as error:  # clients are told why, instead of waiting for a thread that ended
            cause = f"The server's engine could not be loaded ({type(error).__name__})."
            self._failure = ("model", cause, "Ask the server's administrator to look at its log.")
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
            HttpError: Still loading (with Retry-After), or it failed.
        """
        if self._info is None or self._engine is None:
            raise self._not_ready()
        return self._info

    def open_session(self, array: np.ndarray, affine: np.ndarray, modality: str | None) -> Session:
        """Open a session of the engine, one at a time.

        Args:
            array: Intensities (K, J, I).
            affine: 4x4, index (i, j, k) to RAS millimetres.
            modality: Modality, or None to guess.

        Raises:
            HttpError: The engine is not loaded.
            MedalSError: The engine does not take the image.
        """
        if self._engine is None:
            raise self._not_ready()
        with self._opening:
            return self._engine.open_session(array, affine, modality)

    def close(self) -> None:
        """Free the engine."""
        if self._thread.ident is not None:
            self._thread.join(1.0)
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _not_ready(self) -> HttpError:
        if self._failure is not None:
            return HttpError(503, *self._failure)
        return HttpError(503, LOADING, "The server is still loading its model.", "Try again in a moment.", 1.0)


class Gate:
    """Lets each key do one thing of a kind at a time, in turn with the others.

    Args:
        at_once: How many keys do it at once.
    """

    def __init__(self, at_once: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._each: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(1))

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for the owner's turn, and have it for the length of the block."""
        async with self._each[owner], self._all:
            yield


class Answers:
    """Work that may take longer than a client waits for an answer: it is asked again for what it asked for before."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def of(self, what: Hashable, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Begin some work, unless an earlier request has, and return or raise what comes of it.

        Args:
            what: Equal for requests that want the same.
            work: Does it.

        Raises:
            HttpError: It takes longer; asked again, it goes on with the same work.
        """
        task = self._tasks.get(what)
        if task is None:
            task = self._tasks[what] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._forget_later(what, done))
        await asyncio.wait({task}, timeout=ANSWER_SECONDS)
        if not task.done():
            raise HttpError(503, LOADING, "The server is still at work on this.", "Try again in a moment.", 1.0)
        self._tasks.pop(what, None)
        return cast(T, task.result())

    def _forget_later(self, what: Hashable, done: asyncio.Task[Any]) -> None:
        if not done.cancelled():
            done.exception()  # looked at here, so that asyncio does not complain where nobody comes for it
        asyncio.get_running_loop().call_later(KEPT_ANSWER_SECONDS, self._forget, what, done)

    def _forget(self, what: Hashable, done: asyncio.Task[Any]) -> None:
        if self._tasks.get(what) is done:
            del self._tasks[what]


class Server:
    """The parts of one server; the routes find it as `app.state.server`.

    Args:
        engine_factory: Makes the engine, in a thread, when the server starts.
        settings: Limits and keys.

    Raises:
        ServiceError: The key file cannot be used.
    """

    def __init__(self, engine_factory: EngineFactory, settings: Settings) -> None:
        self.settings = settings
        self.keys = ApiKeys(settings.key_file, settings.keys) if settings.authenticated else None
        self.metrics = Metrics()
        self.audit = AuditLog(settings.audit_file)
        self.engine = LoadedEngine(engine_factory)
        self.store = Store(settings, lambda what: self.metrics.evictions.labels(what).inc(), share=self._share)
        self.thinking = Gate(1)
        """For work that holds Python's lock: with more at once, the event loop would wait for its turn too long."""
        self.decoding = Gate(2)
        self.opening = Gate(1)
        self.answers = Answers()
        self.after_first_run: Callable[[], None] | None = None
        """Called once, when what an engine only loads for a run is there."""
        worker = RunWorker(self.store, self._run_ended)
        self.queue = RunQueue(worker, settings.queue_length, settings.runs_per_key)
        self.metrics.watch("medals_sessions", "Open sessions", self.store.session_count)
        self.metrics.watch("medals_memory_bytes", "Memory granted", self.store.used_bytes)
        self.metrics.watch("medals_queue_length", "Runs queued or running", lambda: len(self.queue))
        self.metrics.watch(
            "medals_keys_unusable", "Whether the key file lets nobody in", lambda: float(self.keys_failing)
        )
        self.metrics.watch("medals_audit_failures", "Audit entries not written", lambda: self.audit.failures)

    @property
    def keys_failing(self) -> bool:
        """Whether the key file cannot be used, so that nobody is let in."""
        return self.keys is not None and self.keys.problem is not None

    @property
    def stuck(self) -> bool:
        """Whether a cancelled run has not ended for so long that only a restart will help."""
        run = self.queue.running
        return (
            run is not None
            and run.cancelled_at is not None
            and time.monotonic() - run.cancelled_at > self.settings.stuck_seconds
        )

    def _share(self) -> float:
        """Return the part of the memory that one key may hold: all of it where there is no other."""
        return self.settings.key_share if self.keys is not None and len(self.keys.names()) > 1 else 1.0

    def _run_ended(self, run: Run, seconds: float, names: tuple[str, ...]) -> None:
        self.store.close_evicted()  # a session that was ended under its run is closed now
        self.metrics.runs.labels(run.state).inc()
        self.metrics.run_seconds.observe(seconds)
        fields = {"run": run.id, "session": run.session.id, "outcome": run.state, "seconds": round(seconds, 2)}
        self.audit.write(run.owner, "run_ended", {**fields, "structures": list(names)})
        settle, self.after_first_run = self.after_first_run, None
        if settle is not None:
            settle()

    async def sweep_forever(self) -> None:
        """Read the keys again and free what is abandoned or revoked, once a second."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self._sweep)
            except Exception as error:  # a leak for a second is better than one for ever
                log_exception("not_swept", error)

    def _sweep(self) -> None:
        for session in self.store.sweep():
            self.audit.write(session.owner, "session_expired", {"session": session.id})
        if self.keys is None:
            return
        self.keys.reload()
        if self.keys.problem is None:  # a file that is being edited ends no run; it only lets nobody in
            for session in self.store.revoke(self.keys.names().__contains__):
                for run in list(session.runs.values()):
                    self.queue.cancel(run)
                self.audit.write(session.owner, "key_revoked", {"session": session.id})

    def close(self) -> None:
        """End the runs, the sessions and the engine."""
        self.queue.stop()
        self.store.close()
        self.engine.close()
