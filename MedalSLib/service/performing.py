"""Doing one run: wire to arrays, engine, arrays to wire, and every way in which it can end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from MedalSLib.engine.interface import Options, SegmentationResult
from MedalSLib.errors import CancelledError, MedalSError
from MedalSLib.service import protocol
from MedalSLib.service.encoding import LABEL_DTYPES, DamagedError, decode_array, encode_array
from MedalSLib.service.logs import log_exception
from MedalSLib.service.refusal import Refusal
from MedalSLib.service.runs import Run

RunEnded = Callable[[Run, float, tuple[str, ...]], None]
"""Called as `(run, seconds, names)` with the published names of the result's structures."""


class Performer:
    """Runs a `Run` on its session's engine session and publishes how it ended.

    Args:
        reserve: Takes that many bytes out of the memory budget for an owner, or raises `Refusal`.
        release: Gives them back.
        ended: Told about each end, for the audit log and the metrics.
        relieve: Frees what can be freed after the memory ran out.
    """

    def __init__(
        self,
        reserve: Callable[[str, int], None],
        release: Callable[[int], None],
        ended: RunEnded,
        relieve: Callable[[], None],
    ) -> None:
        self._reserve = reserve
        self._release = release
        self._ended = ended
        self._relieve = relieve

    def __call__(self, run: Run) -> None:
        """Run to the end; never raises."""
        begun = time.monotonic()
        names: tuple[str, ...] = ()
        try:
            names = self._segment(run)
        except CancelledError:
            run.publish("cancelled", {}, state="cancelled")
        except MedalSError as error:
            self._fail(run, protocol.error_kind(error), error.cause, error.remedy)
        except Refusal as refusal:
            self._fail(run, refusal.kind, refusal.cause, refusal.remedy)
        except DamagedError as error:
            self._fail(run, protocol.CORRUPT, f"A mask was damaged on the way: {error}.", "Send it again.")
        except MemoryError as error:
            log_exception("out_of_memory", error, run=run.id)
            self._relieve()
            self._fail(
                run, "resource", "The server ran out of memory.", "Segment fewer structures or a smaller region."
            )
        except BaseException as error:  # the queue's thread must outlive whatever an engine does
            log_exception("run_crashed", error, run=run.id)
            self._fail(
                run,
                "service",
                f"The server's engine failed unexpectedly ({type(error).__name__}).",
                f"Run again; if it fails again, tell the administrator the run's number {run.id[:8]}.",
            )
        run.request = None
        self._ended(run, time.monotonic() - begun, names)

    def _segment(self, run: Run) -> tuple[str, ...]:
        request = run.request
        if request is None or run.cancel.is_set() or run.session.engine_session is None:
            raise CancelledError()
        shape = run.session.image.shape
        needed = (len(request.masks) + len(request.locked)) * run.session.image.voxels
        self._reserve(run.owner, needed)
        try:
            masks = {name: decode_array(encoded, shape) for name, encoded in request.masks.items()}
            locked = {name: decode_array(encoded, shape) for name, encoded in request.locked.items()}
            run.request = None
            result = run.session.engine_session.segment(
                request.prompts,
                masks or None,
                locked or None,
                request.roi,
                options=Options(**asdict(request.options)),
                on_progress=lambda progress: run.publish("progress", asdict(progress)),
                on_structure=_structure_publisher(run) if request.stream_structures else None,
                cancel=run.cancel,
            )
            run.result = encode_result(result)
        finally:
            self._release(needed)
        run.publish("done", {}, state="done")
        return result.names

    def _fail(self, run: Run, kind: str, cause: str, remedy: str) -> None:
        run.publish("failed", {"kind": kind, "cause": cause, "remedy": remedy}, state="failed")


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
        report=result.report.to_dict(),
    )
    return json.dumps(protocol.to_json(message), default=float).encode("ascii")


def _encode_all(arrays: Mapping[str, np.ndarray]) -> dict[str, protocol.EncodedArray]:
    return {name: encode_array(array) for name, array in arrays.items()}
