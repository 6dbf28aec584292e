"""Corrections through a session: what was painted carries over, what was not touched stays, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from MedalSLib.engine import Options, RunResult, open_engine
from MedalSLib.engine.interface import Engine, Session
from MedalSLib.errors import InputError, PromptError
from MedalSLib.volume import BoxMask

SHAPE = (30, 60, 60)
REFINE = Options(mode="refine")


def ball(center: tuple[int, int, int], radius: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    grid = np.indices(shape) - np.array(center).reshape(3, 1, 1, 1)
    return np.asarray((grid**2).sum(axis=0) <= radius**2)


BODY, LUMP = ball((15, 30, 30), 11), ball((15, 30, 45), 6)


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """A bright ball, and a brighter lump at its side, in noise (K, J, I)."""
    noise = np.random.default_rng(0).normal(0, 6, SHAPE)
    return (noise + np.where(LUMP, 200, 100 * BODY)).astype(np.float32)


@pytest.fixture(scope="module")
def opened(tiny_model: Path) -> Iterator[Engine]:
    with open_engine(str(tiny_model), "cpu") as engine:
        yield engine


@pytest.fixture
def session(opened: Engine, scan: np.ndarray) -> Iterator[Session]:
    with opened.open_session(scan, np.diag([-1.0, -1.0, 1.5, 1.0]), "CT") as session:
        yield session


def refine(session: Session, name: str, mask: np.ndarray, locked: np.ndarray) -> np.ndarray:
    return session.segment(masks={name: mask}, locked={name: locked}, options=REFINE).masks[name]


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_an_unchanged_result_is_returned_to_the_voxel_without_a_network(session: Session) -> None:
    found = session.segment(["liver"]).masks["Liver"]
    again = session.segment(masks={"liver": found}, options=REFINE)
    assert np.array_equal(again.masks["Liver"], found)
    assert not [stage for stage in again.report.seconds if stage.startswith("stage")]


@pytest.mark.parametrize("name", ["mass 1", "Pancreas"])
def test_a_structure_that_the_model_does_not_know_is_made_from_a_painted_slice(session: Session, name: str) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15] = LUMP[15]
    result = session.segment(masks={name: paint}, locked={name: paint}, options=REFINE)
    assert dice(result.masks[name], LUMP) > dice(paint, LUMP) + 0.2
    assert result.masks[name][paint].all()
    report = result.report.structures[name]
    assert (report.source, report.mean_probability, report.found) == ("paint", None, True)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_painted_slice_carries_over_in_every_plane(session: Session, axis: int) -> None:
    plane = [slice(None)] * 3
    plane[axis] = slice((15, 30, 45)[axis], (15, 30, 45)[axis] + 1)
    paint = np.zeros(SHAPE, bool)
    paint[tuple(plane)] = LUMP[tuple(plane)]
    assert dice(refine(session, "mass 1", paint, paint), LUMP) > dice(paint, LUMP) + 0.2


def test_what_was_painted_stays_and_what_is_far_away_stays(session: Session) -> None:
    before = BODY & (np.indices(SHAPE)[2] < 36)
    paint = BODY & ~before
    paint[:15], paint[16:] = False, False
    after = refine(session, "liver", before | paint, paint)
    assert after[before | paint].all(), "paint that adds only adds"
    assert dice(after, BODY) > dice(before | paint, BODY)
    far = np.indices(SHAPE)[2] < 6
    assert np.array_equal(after[far], before[far])


def test_erasing_only_erases(session: Session) -> None:
    before = BODY | LUMP
    erased = np.zeros(SHAPE, bool)
    erased[15] = (LUMP & ~BODY)[15]
    after = refine(session, "mass 1", before & ~erased, erased)
    assert not (after & ~before).any() and not (after & erased).any()
    assert dice(after, BODY) > dice(before & ~erased, BODY)


def test_earlier_paint_is_kept_but_not_carried_over_again(session: Session) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15] = LUMP[15]
    first = refine(session, "mass 1", paint, paint)
    assert np.array_equal(refine(session, "mass 1", first, paint), first)
    wrong = np.argwhere(first & ~paint)[0]
    erased = np.zeros(SHAPE, bool)
    erased[tuple(wrong)] = True
    second = refine(session, "mass 1", first & ~erased, paint | erased)
    assert second[paint].all() and not second[erased].any()


def test_what_is_named_without_a_mask_is_segmented_beside_what_is_refined(session: Session) -> None:
    alone = session.segment(["liver"]).masks["Liver"]
    paint = np.zeros(SHAPE, bool)
    paint[15] = LUMP[15]
    result = session.segment(["liver"], {"mass 1": paint}, {"mass 1": paint}, options=REFINE)
    assert result.names == ("Liver", "mass 1") and np.array_equal(result.masks["Liver"], alone)
    assert dice(result.masks["mass 1"], LUMP) > dice(paint, LUMP) + 0.2


def test_a_correction_that_was_undone_is_carried_again_when_it_is_said_to_be_new(session: Session) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15] = LUMP[15]
    first = refine(session, "mass 1", paint, paint)
    given = {"mass 1": paint}
    assert np.array_equal(session.segment((), given, given, options=REFINE).masks["mass 1"], paint)
    again = session.segment((), given, given, painted=given, options=REFINE)
    assert np.array_equal(again.masks["mass 1"], first)


def test_the_slices_worth_checking_are_those_that_nobody_decided(session: Session) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15] = LUMP[15]
    first = refine(session, "mass 1", paint, paint)
    asked = {"masks": {"mass 1": first}, "locked": {"mass 1": paint}, "options": REFINE}
    (axis, worst), *_ = session.segment(**asked).report.structures["mass 1"].worth_checking
    assert axis == 0 and first[worst].any() and worst != 15
    checked = paint.copy()
    checked[worst] = True
    left = session.segment(**asked | {"locked": {"mass 1": checked}}).report.structures["mass 1"].worth_checking
    assert left and (0, worst) not in left


def test_each_structure_keeps_its_own_paint_where_two_were_painted_on_the_same_voxels(session: Session) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15] = LUMP[15]
    both = {"mass 1": paint, "liver": paint}
    result = session.segment(masks=both, locked=both, options=REFINE)
    assert set(result.names) == {"mass 1", "Liver"}
    assert result.masks["mass 1"][paint].all() and result.masks["Liver"][paint].all()


def test_instances_of_a_corrected_structure_are_numbered_apart(session: Session) -> None:
    mask, options = ball((6, 10, 10), 3) | ball((22, 50, 50), 3), Options(mode="refine", instances=("Liver",))
    result = session.segment(masks={"liver": mask}, locked={"liver": np.ones(SHAPE, bool)}, options=options)
    labels = result.instances["Liver"].array()
    assert np.array_equal(labels > 0, result.masks["Liver"]) and set(np.unique(labels)) == {0, 1, 2}


def test_an_erased_structure_stays_erased(session: Session) -> None:
    result = session.segment(masks={"liver": np.zeros(SHAPE, bool)}, locked={"liver": BODY}, options=REFINE)
    assert not result.masks["Liver"].any() and not result.report.structures["Liver"].found


def test_nothing_changes_outside_the_region_of_interest(session: Session) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15] = LUMP[15]
    roi = ((0, 60), (0, 60), (0, 18))
    result = session.segment(masks={"mass 1": paint}, locked={"mass 1": paint}, roi=roi, options=REFINE)
    found = result.masks["mass 1"]
    assert found[:18].sum() > paint.sum() and not found[18:].any()


def test_masks_are_told_while_the_run_goes_on_and_the_last_is_the_result(session: Session) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15] = BODY[15]
    told: list[tuple[str, BoxMask]] = []
    result: RunResult = session.segment(
        masks={"liver": paint}, locked={"liver": paint}, options=REFINE, on_structure=lambda *of: told.append(of)
    )
    assert told[0][1].array()[paint].all()
    assert told[-1] == ("Liver", result.box_masks["Liver"])


@pytest.mark.parametrize("shape", [(1, 60, 60), (30, 3, 60)])
def test_thin_volumes_are_corrected_too(opened: Engine, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    paint = np.zeros(shape, bool)
    paint[0, 1, 10:20] = True
    with opened.open_session(image, np.eye(4), "CT") as session:
        assert refine(session, "mass 1", paint, paint)[paint].all()


def test_constant_intensities_around_the_paint_do_no_harm(opened: Engine, scan: np.ndarray) -> None:
    flat = np.where(np.indices(SHAPE)[2] < 50, 0, scan)
    paint = ball((15, 20, 20), 3)
    with opened.open_session(flat, np.eye(4), "CT") as session:
        assert refine(session, "mass 1", paint, paint)[paint].all()


def test_bad_requests_are_explained(session: Session) -> None:
    paint = np.zeros(SHAPE, bool)
    paint[15, 30, 30] = True
    with pytest.raises(InputError, match="no mask"):
        session.segment(["liver"], locked={"liver": paint}, options=REFINE)
    with pytest.raises(PromptError, match="mass 1"):
        session.segment(["mass 1"])
    with pytest.raises(InputError, match="shape"):
        session.segment(masks={"x": paint[:3]}, locked={"x": paint[:3]}, options=REFINE)
    with pytest.raises(PromptError, match="name"):
        session.segment(masks={" ": paint}, locked={" ": paint}, options=REFINE)
