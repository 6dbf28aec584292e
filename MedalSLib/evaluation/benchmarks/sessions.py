"""What a session's caches save: a new name on an open image, and a correction."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.evaluation.benchmarks.measuring import Seconds, ratio, timed
from MedalSLib.evaluation.benchmarks.scenes import BenchOptions, ball, synthetic_ct, write_model


def new_name(options: BenchOptions) -> dict[str, Any]:
    """Ask for one name, then for another, and the other without caches.

    Stage 1 has no prompts, so its voxel features serve every name; those of stage 2 depend on the prompts of the very
    names that are asked for, and run again.  Both are reported.
    """
    from MedalSLib.engine import Options
    from MedalSLib.engine.caches import CacheSettings
    from MedalSLib.engine.local import LocalEngine

    image = synthetic_ct(options.shape or 2 * options.patch)
    rows = []
    with tempfile.TemporaryDirectory(prefix="medals-bench-") as folder:
        write_model(Path(folder), options)
        with (
            LocalEngine(folder, "cpu", threads=options.threads) as engine,
            LocalEngine(folder, "cpu", threads=options.threads, caches=CacheSettings.off()) as plain,
        ):
            for each in (engine, plain):
                _warmed(each, image)
            for options_of_run in (Options(stages="first"), Options(stages="both")):
                with engine.open_session(image, np.eye(4), "CT") as session:
                    first = timed(partial(session.segment, ["liver"], options=options_of_run))
                    results: list[Any] = []
                    further = timed(partial(_kept, results, session, "spleen", options_of_run))
                with plain.open_session(image, np.eye(4), "CT") as session:
                    fresh = timed(partial(_kept, results, session, "spleen", options_of_run))
                kept, again = results
                rows.append(
                    {
                        "stages": options_of_run.stages,
                        "first_name": first.to_dict(),
                        "further_name": further.to_dict(),
                        "further_name_without_caches": fresh.to_dict(),
                        "share_of_first": ratio(further, first),
                        "cached": list(kept.report.cached),
                        "identical": bool(np.array_equal(kept.masks["Spleen"], again.masks["Spleen"])),
                    }
                )
    return {"image": list(image.shape), "rows": rows}


def _kept(results: list[Any], session: Any, name: str, options: Any) -> None:
    results.append(session.segment([name], options=options))


def correction(options: BenchOptions) -> dict[str, Any]:
    """Segment with masks, correct one with a brush stroke, and do the same without caches.

    Patches overlap by half, so a stroke near the border lies in one patch and one in the middle in up to 27.
    """
    from MedalSLib.engine.caches import CacheSettings
    from MedalSLib.engine.local import LocalEngine

    image = synthetic_ct(options.shape or 2 * options.patch)
    edge = image.shape[0]
    masks = {"Liver": np.zeros(image.shape, dtype=bool), "Spleen": ball(image.shape, (edge / 4,) * 3, edge / 8)}
    masks["Liver"][2:-2, 2:-2, 2:-2] = True  # the region is that of all masks: it stays, and with it the patches
    rows = []
    with tempfile.TemporaryDirectory(prefix="medals-bench-") as folder:
        write_model(Path(folder), options)
        with (
            LocalEngine(folder, "cpu", threads=options.threads) as engine,
            LocalEngine(folder, "cpu", threads=options.threads, caches=CacheSettings.off()) as plain,
        ):
            for each in (engine, plain):
                _warmed(each, image)
            with (
                engine.open_session(image, np.eye(4), "CT") as session,
                plain.open_session(image, np.eye(4), "CT") as other,
            ):
                first = timed(lambda: session.segment(masks=masks))
                for where, place in (("near the border", 0.15), ("a third in", 0.35)):
                    stroke = ball(image.shape, (edge * place,) * 3, max(3, edge * 0.03))
                    after = {**masks, "Liver": masks["Liver"] & ~stroke}
                    rows.append({"stroke": where, **_corrected(session, other, after, {"Liver": stroke}, first)})
    return {"image": list(image.shape), "first_run": first.to_dict(), "rows": rows}


def _corrected(session: Any, other: Any, after: Any, locked: Any, first: Seconds) -> dict[str, Any]:
    results: list[Any] = []
    shown: list[float] = []

    def correct() -> None:
        begun = time.perf_counter()
        results.append(
            session.segment(
                masks=after, locked=locked, on_structure=lambda name, mask: shown.append(time.perf_counter() - begun)
            )
        )

    fixed = timed(correct)
    full = timed(lambda: results.append(other.segment(masks=after, locked=locked)))
    corrected, again = results
    return {
        "correction": fixed.to_dict(),
        "full_run": full.to_dict(),
        "share_of_full": ratio(fixed, full),
        "share_of_first": ratio(fixed, first),
        "first_shown_after_wall_s": round(shown[0], 3),
        "cached": list(corrected.report.cached),
        "identical": bool(all(np.array_equal(corrected.masks[name], again.masks[name]) for name in again.masks)),
    }


def _warmed(engine: Any, image: np.ndarray) -> None:
    """Load the networks, and compile them where there is something to compile."""
    with engine.open_session(image[:16, :16, :16], np.eye(4), "CT") as session:
        session.segment(["liver"])
