"""What an open image saves: a new name on it, and a correction."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.benchmarks.measuring import Seconds, ratio, timed
from tools.benchmarks.scenes import BenchOptions, ball, phantom_ct, synthetic_ct, write_model

if TYPE_CHECKING:
    from MedalSLib.engine.interface import Session
    from MedalSLib.engine.local import LocalEngine
    from MedalSLib.run import RunOptions

_CHEST = (160, 3.0)
"""Edge in voxels and voxel in mm of the phantom that the bundled model works on: half a metre, twelve patches."""
_STROKE_MM = 12.0


@dataclass(frozen=True)
class _Bench:
    """What is measured.

    Attributes:
        model: Folder of the model.
        image: CT (K, J, I).
        affine: Its affine, IJK to RAS.
        runs: What is asked for, by words.
        names: The first name and another.
    """

    model: Path
    image: np.ndarray
    affine: np.ndarray
    runs: Mapping[str, RunOptions]
    names: tuple[str, str] = ("Liver", "Spleen")

    @property
    def spacing_kji(self) -> np.ndarray:
        """Voxel spacing in mm."""
        spacing: np.ndarray = np.linalg.norm(self.affine[:3, :3], axis=0)[::-1]
        return spacing


def new_name(options: BenchOptions) -> dict[str, Any]:
    """Ask for one name, then for another, and the other without caches.

    A network without prompts has voxel features that serve every name; those of a stage that is prompted by the stage
    before it depend on the names that are asked for, and run again.  Both are reported.
    """
    rows = []
    with _bench(options) as what, _engines(what, options) as (engine, plain):
        for words, wanted in what.runs.items():
            results: list[Any] = []
            firsts, furthers, freshes = [], [], []
            for _ in range(options.repeats):
                with engine.open_session(what.image, what.affine, "CT") as session:
                    firsts.append(timed(partial(session.segment, [what.names[0]], options=wanted)))
                    furthers.append(timed(partial(_kept, results, session, what.names[1], wanted)))
                with plain.open_session(what.image, what.affine, "CT") as session:
                    freshes.append(timed(partial(_kept, results, session, what.names[1], wanted)))
            first, further, fresh = (min(found, key=lambda one: one.cpu) for found in (firsts, furthers, freshes))
            kept, again = (result.masks[what.names[1]] for result in results[-2:])
            rows.append(
                {
                    "stages": words,
                    "first_name": first.to_dict(),
                    "further_name": further.to_dict(),
                    "further_name_without_caches": fresh.to_dict(),
                    "share_of_first": ratio(further, first),
                    "cached": list(results[-2].report.cached),
                    "voxels_found": int(np.count_nonzero(kept)),
                    "identical": bool(np.array_equal(kept, again)),
                }
            )
    return {"image": list(what.image.shape), "rows": rows}


def _kept(results: list[Any], session: Session, name: str, options: RunOptions) -> None:
    results.append(session.segment([name], options=options))


def correction(options: BenchOptions) -> dict[str, Any]:
    """Segment with masks, correct one with a brush stroke, and do the same without caches.

    In two ways: as the panel refines, where the image around the stroke decides and the network's probability helps;
    and with everything prompted again.  Patches overlap by half, so a stroke near the border lies in one patch and one
    in the middle in up to 27.
    """
    rows = []
    with _bench(options) as what, _engines(what, options) as (engine, plain):
        masks = _masks(what, engine, options)
        corrected = max(masks, key=lambda name: int(np.count_nonzero(masks[name])))
        with (
            engine.open_session(what.image, what.affine, "CT") as session,
            plain.open_session(what.image, what.affine, "CT") as other,
        ):
            first = timed(lambda: session.segment(masks=masks))
            other.segment(masks=masks)  # what was painted since the last result is carried over: both have the same
            for where, stroke in _strokes(masks[corrected], what.spacing_kji):
                after = {**masks, corrected: masks[corrected] & ~stroke}
                for way in ("refine", "hybrid"):
                    row = _corrected(session, other, after, {corrected: stroke}, way, first)
                    rows.append({"stroke": where, "way": way, **row})
    return {
        "image": list(what.image.shape),
        "structures": {name: int(np.count_nonzero(mask)) for name, mask in masks.items()},
        "first_run": first.to_dict(),
        "rows": rows,
    }


def _corrected(session: Session, other: Session, after: Any, locked: Any, way: Any, first: Seconds) -> dict[str, Any]:
    from MedalSLib.run import RunOptions

    results: list[Any] = []
    shown: list[float] = []
    options = RunOptions(mode=way)

    def correct() -> None:
        begun = time.perf_counter()
        results.append(
            session.segment(
                masks=after,
                locked=locked,
                options=options,
                on_structure=lambda name, mask: shown.append(time.perf_counter() - begun),
            )
        )

    fixed = timed(correct)
    full = timed(lambda: results.append(other.segment(masks=after, locked=locked, options=options)))
    corrected, again = results
    return {
        "correction": fixed.to_dict(),
        "without_caches": full.to_dict(),
        "share_of_that": ratio(fixed, full),
        "share_of_first": ratio(fixed, first),
        "first_shown_after_wall_s": round(shown[0], 3),
        "cached": list(corrected.report.cached),
        "identical": bool(all(np.array_equal(corrected.masks[name], again.masks[name]) for name in again.masks)),
    }


def _masks(what: _Bench, engine: LocalEngine, options: BenchOptions) -> dict[str, np.ndarray]:
    """Return what is corrected: what the model finds in a scan; without one a box and a ball."""
    if options.scan is not None:
        names = [name.removeprefix("CT_") for name in engine.info().classes if name.startswith("CT_")]
        with engine.open_session(what.image, what.affine, "CT") as session:
            return {name: mask for name, mask in session.segment(names).masks.items() if mask.any()}
    shape, edge = what.image.shape, what.image.shape[0]
    box = np.zeros(shape, dtype=bool)
    box[2:-2, 2:-2, 2:-2] = True  # the region is that of all masks: it stays, and with it the patches
    return {"Liver": box, "Spleen": ball(shape, (edge / 4,) * 3, edge / 8)}


def _strokes(mask: np.ndarray, spacing: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Return strokes within a structure near its corner and further in, with words for each."""
    voxels = np.argwhere(mask)
    low, size = voxels.min(axis=0), np.ptp(voxels, axis=0)
    for where, share in (("near a corner", 0.15), ("a third in", 0.35)):
        place = low + share * size
        nearest = voxels[np.argmin((((voxels - place) * spacing) ** 2).sum(axis=1))]
        yield where, ball(mask.shape, tuple(nearest), _STROKE_MM, tuple(spacing)) & mask


@contextmanager
def _bench(options: BenchOptions) -> Iterator[_Bench]:
    """Prepare a model and an image: the bundled model, or one of random weights."""
    from MedalSLib.network.registry import find_folder
    from MedalSLib.run import RunOptions
    from MedalSLib.volume.reading import read_image

    with tempfile.TemporaryDirectory(prefix="medals-bench-") as folder:
        model, runs = Path(folder), {"the first": RunOptions(stages="first"), "both": RunOptions()}
        bundled = options.width == "starter"
        if bundled:
            model, runs = find_folder("starter"), {"the only one": RunOptions()}
        else:
            write_model(model, options)
        if options.scan is not None:
            scan = read_image(options.scan)
            yield _Bench(model, scan.array_kji, scan.grid.affine_ras, runs)
        elif bundled:
            edge, spacing = options.shape or _CHEST[0], _CHEST[1]
            affine = np.diag([spacing, spacing, spacing, 1.0])
            yield _Bench(model, phantom_ct(edge), affine, runs, ("Left lung", "Right lung"))
        else:
            yield _Bench(model, synthetic_ct(options.shape or 2 * options.patch), np.eye(4), runs)


@contextmanager
def _engines(what: _Bench, options: BenchOptions) -> Iterator[tuple[LocalEngine, LocalEngine]]:
    """Open an engine that keeps what it can and one that keeps nothing, both with their networks ready."""
    from MedalSLib.engine.caches import CacheSettings
    from MedalSLib.engine.local import LocalEngine

    with (
        LocalEngine(str(what.model), "cpu", threads=options.threads) as engine,
        LocalEngine(str(what.model), "cpu", threads=options.threads, caches=CacheSettings.off()) as plain,
    ):
        for each in (engine, plain):  # with and without prompts, which are compiled apart
            middle = [slice(size // 2 - min(8, size // 2), size // 2 + 8) for size in what.image.shape]
            part = what.image[tuple(middle)]
            with each.open_session(part, what.affine, "CT") as session:
                session.segment(["liver"])
                session.segment(masks={"Liver": np.ones(part.shape, dtype=bool)})
        yield engine, plain
