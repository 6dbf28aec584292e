"""Works on one run: decodes its masks, calls the engine, encodes the result, and reports how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from MedalSLib.engine.interface import SegmentationResult
from MedalSLib.errors import CancelledError, MedalSError
from MedalSLib.service import protocol
from MedalSLib.service.encoding import LABEL_DTYPES, DamagedError, decode_array, encode_array
from MedalSLib.service.http_errors import HttpError, to_http_error
from MedalSLib.service.logs import log_exception
from MedalSLib.service.sessions import Run
from MedalSLib.service.store import Store

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
        request = run.request
        if request is None or run.cancel.is_set() or run.session.engine_session is None:
            raise CancelledError()
        shape = run.session.image.shape
        with self._store.reserved(run.owner, (len(request.masks) + len(request.locked)) * run.session.image.voxels):
            masks = {name: decode_array(encoded, shape) for name, encoded in request.masks.items()}
            locked = {name: decode_array(encoded, shape) for name, encoded in request.locked.items()}
            run.request = None
            result = run.session.engine.segment(
                request.prompts,
                masks or None,
                locked or None,
                request.roi,
                options=request.options,
                on_progress=lambda progress: run.publish("progress", asdict(progress)),
                on_structure=_structure_publisher(run) if request.stream_structures else None,
                cancel=run.cancel,
            )
            run.result = encode_result(result)
        run.publish("done", {}, state="done")
        return result.names

    def _fail(self, run: Run, error: BaseException) -> None:
        if not isinstance(error, MedalSError | HttpError | DamagedError):
            log_exception("run_crashed", error, run=run.id)
        if isinstance(error, MemoryError):
            self._store.relieve()
        answer = to_http_error(error)
        said = {"kind": answer.kind, "cause": answer.cause, "remedy": answer.remedy}
        run.publish("failed", said, state="failed")


def _structure_publisher(run: Run) -> Callable[[str, np.ndarray], None]:
    def publish(name: str, mask: np.ndarray) -> None:
        encoded = protocol.to_json(encode_array(np.asarray(mask, dtype=bool)))
        run.publish("structure", {"name": name, "mask": encoded}, name=name)

    return publish


def _labels(array: np.ndarray) -> np.ndarray:
    """Return a labelmap in the smallest unsigned type that holds it."""
    if array.dtype.newbyteorder("<").str in LABEL_DTYPES:
        return array
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def encode_result(result: SegmentationResult) -> bytes:
    """Return a result as the JSON of `protocol.RunResult`."""
    message = protocol.RunResult(
        masks=_encode_all(result.masks),
        labelmap=encode_array(_labels(result.labelmap)),
        names=tuple(result.names),
        instances=_encode_all({name: _labels(labels) for name, labels in result.instances.items()}),
        report=result.report,
    )
    return json.dumps(protocol.to_json(message), default=float).encode("ascii")


def _encode_all(arrays: Mapping[str, np.ndarray]) -> dict[str, protocol.EncodedArray]:
    return {name: encode_array(array) for name, array in arrays.items()}
