"""Works on one run: decodes its masks, calls the engine, encodes the result, and reports how it ended."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import asdict

from MedalSLib.errors import CancelledError
from MedalSLib.service import protocol
from MedalSLib.service.encoding import encode_mask
from MedalSLib.service.http_errors import HttpError, memory_ran_out, to_http_error
from MedalSLib.service.logs import log_exception
from MedalSLib.service.run_messages import decode_request, encode_result
from MedalSLib.service.sessions import Run
from MedalSLib.service.store import Store
from MedalSLib.volume.mask import BoxMask

RunEnded = Callable[[Run, float, tuple[str, ...]], None]
"""Called as `(run, seconds, names)` with the published names of the result's structures."""


class RunWorker:
    """Runs a `Run` on its session's engine session and publishes how it ended.

    Args:
        store: Grants the memory of the decoded masks.
        ended: Told about each end, for the audit log and the metrics.
    """

    def __init__(self, store: Store, ended: RunEnded) -> None:
        self._store = store
        self._ended = ended

    def __call__(self, run: Run) -> None:
        """Run to the end; never raises."""
        begun = time.monotonic()
        names: tuple[str, ...] = ()
        try:
            names = self._segment(run)
        except CancelledError:
            run.publish("cancelled", {}, state="cancelled")
        except BaseException as error:  # the queue's thread must outlive whatever an engine does
            self._fail(run, error)
        run.request = None
        self._ended(run, time.monotonic() - begun, names)

    def _segment(self, run: Run) -> tuple[str, ...]:
        message = run.request
        if message is None or run.cancel.is_set() or run.session.engine_session is None:
            raise CancelledError()
        masks = sum(map(len, message.mask_groups))
        with self._store.reserved(run.owner, masks * run.session.image.voxels):
            request = decode_request(message, run.session.image.shape)
            on_structure = _structure_publisher(run) if message.stream_structures else None
            run.request = message = None  # from here on its masks are held once, as `BoxMask`s
            result = run.session.engine.run(
                request,
                on_progress=lambda progress: run.publish("progress", asdict(progress)),
                on_structure=on_structure,
                cancel=run.cancel,
            )
            run.result = json.dumps(protocol.to_json(encode_result(result)), default=float).encode("ascii")
        run.publish("done", {}, state="done")
        return result.names

    def _fail(self, run: Run, error: BaseException) -> None:
        answer = to_http_error(error) if isinstance(error, Exception) else None
        low = memory_ran_out(error)
        if answer is None or low:
            log_exception("run_crashed", error, run=run.id)
        if low:
            # What the failed run still holds hangs on its traceback.
            error.__traceback__ = None
            gc.collect()
            self._store.relieve()
        if answer is None:
            cause = f"The server's engine failed unexpectedly ({type(error).__name__})."
            remedy = f"Run again; if it fails again, tell the administrator the run's number {run.id[:8]}."
            answer = HttpError(500, "service", cause, remedy)
        said = {"kind": answer.kind, "cause": answer.cause, "remedy": answer.remedy}
        run.publish("failed", said, state="failed")


def _structure_publisher(run: Run) -> Callable[[str, BoxMask], None]:
    def publish(name: str, mask: BoxMask) -> None:
        encoded = protocol.to_json(encode_mask(mask))
        run.publish("structure", {"name": name, "mask": encoded}, name=name)

    return publish
