"""The in-process session: what a front end may rely on, with a tiny network of random weights."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from MedalSLib.engine import open_engine
from MedalSLib.engine.local import LocalEngine
from MedalSLib.errors import CancelledError, InputError, ModelError, PromptError, ResourceError
from MedalSLib.network.manifest import read_manifest, write_manifest
from MedalSLib.run import Progress, RunOptions
from MedalSLib.volume import BoxMask

pytestmark = pytest.mark.slow


def block(shape: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def test_names_as_typed_come_back_as_masks_on_the_images_grid(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray
) -> None:
    with engine.open_session(image, affine, "ct") as session:
        result = session.segment(["liver", "both kidneys"])
    assert result.names == ("Liver", "Right kidney", "Left kidney")
    for mask in result.masks.values():
        assert mask.dtype == bool
        assert mask.shape == image.shape
    assert np.array_equal(result.masks["liver"], result.masks["Liver"])
    assert result.report.understood["both kidneys"] == ("Right kidney", "Left kidney")
    assert result.report.modality == "CT"


def test_volumes_and_labels_agree_with_the_masks(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    with engine.open_session(image, affine, "CT") as session:
        result = session.segment(["right kidney", "liver tumors"])
    assert result.report.structures["Right kidney"].found
    assert not result.report.structures["Liver tumors"].found
    for number, name in enumerate(result.names, start=1):
        entry = result.report.structures[name]
        assert entry.volume_ml == pytest.approx(result.masks[name].sum() * 1.2 * 1.0 * 1.5 / 1000, abs=1e-3)
        assert entry.found == result.masks[name].any()
        np.testing.assert_array_equal(result.labelmap == number, result.masks[name])  # they do not overlap here


def test_the_answer_does_not_depend_on_how_the_image_is_stored(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray
) -> None:
    """The same patient in another axis order and direction: the same voxels are the liver."""
    with engine.open_session(image, affine, "CT") as session:
        expected = session.segment(["liver"]).masks["Liver"]
    # Stored with i and k exchanged and j reversed: kji -> ijk order, and the affine says so.
    stored = image.transpose(2, 1, 0)[:, ::-1, :]
    turned = affine[:, [2, 1, 0, 3]].copy()
    turned[:, 3] = affine @ np.array([0, image.shape[1] - 1, 0, 1])
    turned[:3, 1] = -affine[:3, 1]
    with engine.open_session(np.ascontiguousarray(stored), turned, "CT") as session:
        found = session.segment(["liver"]).masks["Liver"]
    assert expected.any()
    np.testing.assert_array_equal(found[:, ::-1, :].transpose(2, 1, 0), expected)


def test_the_same_seed_gives_the_same_masks_whatever_ran_before(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray
) -> None:
    with engine.open_session(image, affine, "CT") as session:
        first = session.segment(["liver", "spleen"], options=RunOptions(seed=3))
        session.segment(["left lung"])
        again = session.segment(["liver", "spleen"], options=RunOptions(seed=3))
    assert any(first.masks[name].any() for name in first.names)
    for name in first.names:
        np.testing.assert_array_equal(first.masks[name], again.masks[name])


def test_locked_voxels_keep_the_users_value(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    drawn = block(image.shape, 8, 20)
    locked = block(image.shape, 6, 12)
    with engine.open_session(image, affine, "CT") as session:
        result = session.segment(["liver"], masks={"liver": drawn}, locked={"liver": locked})
    np.testing.assert_array_equal(result.masks["Liver"][locked], drawn[locked])
    assert result.report.structures["Liver"].source == "mask"


def test_refining_changes_nothing_far_from_the_edit(engine: LocalEngine, affine: np.ndarray) -> None:
    random = np.random.default_rng(1)
    wide = random.normal(0, 100, (24, 120, 120)).astype(np.float32)
    drawn = np.zeros(wide.shape, dtype=bool)
    drawn[4:20, 10:110, 10:110] = True
    locked = np.zeros(wide.shape, dtype=bool)
    locked[10:14, 20:24, 20:24] = True
    with engine.open_session(wide, affine, "CT") as session:
        result = session.segment(
            [], masks={"liver": drawn}, locked={"liver": locked}, options=RunOptions(mode="refine")
        )
    far = np.zeros(wide.shape, dtype=bool)
    far[:, 90:, 90:] = True
    np.testing.assert_array_equal(result.masks["Liver"][far], drawn[far])
    assert "stage 1" not in result.report.seconds


def test_a_region_of_interest_is_a_hard_limit(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    box = ((5, 20), (10, 25), (4, 20))
    with engine.open_session(image, affine, "CT") as session:
        result = session.segment(["liver"], roi=box)
    outside = np.ones(image.shape, dtype=bool)
    outside[4:20, 10:25, 5:20] = False
    assert result.masks["Liver"].any()
    assert not result.masks["Liver"][outside].any()


def test_progress_grows_to_one_and_names_its_stage(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    seen: list[Progress] = []
    with engine.open_session(image, affine, "CT") as session:
        session.segment(["liver", "left lung"], on_progress=seen.append)
    fractions = [report.fraction for report in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert seen[-1].stage == "done"
    assert {"stage 1"} <= {report.stage for report in seen}
    assert any(report.patches > 0 and report.seconds_left is not None for report in seen)


def test_cancel_stops_and_the_session_stays_usable(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    cancel = threading.Event()
    patches = 0

    def stop_after_two(report: Progress) -> None:
        nonlocal patches
        patches += 1
        if patches == 2:
            cancel.set()

    with engine.open_session(image, affine, "CT") as session:
        with pytest.raises(CancelledError):
            session.segment(["liver"], on_progress=stop_after_two, cancel=cancel)
        assert patches == 2
        assert session.segment(["liver"]).names == ("Liver",)


def test_structures_stream_as_they_are_final(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    seen: dict[str, BoxMask] = {}
    with engine.open_session(image, affine, "CT") as session:
        result = session.segment(["liver", "left lung"], on_structure=seen.__setitem__)
    assert set(seen) == set(result.names)
    assert all(not mask.is_empty for mask in seen.values())
    for name, mask in seen.items():
        assert mask == result.box_masks[name]


def test_windows_are_reported_and_can_be_changed(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    with engine.open_session(image, affine, "CT") as session:
        usual = session.segment(["liver", "left lung"])
        narrow = session.segment(["liver"], options=RunOptions(windows={"liver": "60/150"}))
    assert usual.report.structures["Liver"].window != usual.report.structures["Left lung"].window
    assert "60" in narrow.report.structures["Liver"].window
    assert (narrow.masks["Liver"] != usual.masks["Liver"]).any()


def test_a_model_of_one_window_sees_every_structure_in_it_unless_the_user_says_otherwise(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(engine.model.manifest, windows={"CT": "soft tissue"})
    monkeypatch.setattr(engine.model, "manifest", one)
    with engine.open_session(image, affine, "CT") as session:
        found = session.segment(["liver", "left lung"]).report.structures
        other = session.segment(["left lung"], options=RunOptions(windows={"*": "lung"})).report.structures
    assert found["Left lung"].window == found["Liver"].window == "soft tissue L40 W400"
    assert other["Left lung"].window.startswith("lung")


def test_a_modality_runs_on_the_grid_that_the_model_has_for_it(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = {"MRI": {"spacing_hwd": [60.0, 60.0, 60.0], "resampling": "plain"}}
    manifest = engine.model.manifest
    other = replace(manifest, stages=tuple(replace(stage, by_modality=coarse) for stage in manifest.stages))
    patches, masks = {}, {}
    for name, given in (("usual", manifest), ("other", other)):
        monkeypatch.setattr(engine.model, "manifest", given)
        for modality in ("CT", "MRI"):
            with engine.open_session(image, affine, modality) as session:
                patches[name, modality] = session.estimate(["liver"]).patches
                masks[name, modality] = session.segment(["liver"], options=RunOptions(stages="first")).masks["Liver"]
    assert patches["other", "CT"] == patches["usual", "CT"]
    assert (masks["other", "CT"] == masks["usual", "CT"]).all()
    assert (masks["other", "MRI"] != masks["usual", "MRI"]).any()


def test_instances_are_numbered_apart(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    drawn = block(image.shape, 2, 7) | block(image.shape, 14, 20)
    with engine.open_session(image, affine, "CT") as session:
        result = session.segment(
            masks={"liver tumors": drawn},
            locked={"liver tumors": np.ones_like(drawn)},
            options=RunOptions(instances=("*",)),
        )
    labels = result.instances["Liver tumors"].array()
    assert result.report.structures["Liver tumors"].instances == 2
    np.testing.assert_array_equal(labels > 0, drawn)
    assert {labels[4, 4, 4], labels[16, 16, 16]} == {1, 2}


def test_an_estimate_leaves_out_what_is_kept(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    quick = RunOptions(stages="first")
    with engine.open_session(image, affine, "CT") as session:
        before = session.estimate(["liver"], options=quick).patches
        session.segment(["liver"], options=quick)
        assert before > 0 and session.estimate(["spleen"], options=quick).patches == 0
        bone = RunOptions(stages="first", windows={"*": "bone"})  # for which nothing was computed yet
        assert session.estimate(["spleen"], options=bone).patches == before


def test_an_estimate_needs_no_run(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    with engine.open_session(image, affine, "CT") as session:
        estimate = session.estimate(["liver"])
        assert estimate.patches > 0
        assert estimate.memory_mb > 0
        assert estimate.fits
        session.segment(["liver"])
        assert session.estimate(["liver"]).seconds is not None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "Nothing"),
        ("  ", "Nothing"),
        ("flurb", "flurb"),
        ("livr, flurb", "flurb"),
        ("gallbladder", "does not know"),
    ],
)
def test_names_that_cannot_be_answered_are_explained(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray, text: str, part: str
) -> None:
    with engine.open_session(image, affine, "CT") as session, pytest.raises(PromptError, match=part) as caught:
        session.segment([text] if text else [])
    assert caught.value.remedy


def test_what_the_model_knows_is_listed_when_it_does_not_know(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray
) -> None:
    with engine.open_session(image, affine, "CT") as session, pytest.raises(PromptError) as caught:
        session.segment(["gallbladder"])
    assert "Left kidney" in caught.value.remedy


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda image: image[0], "dimensions"),
        (lambda image: np.stack([image, image]), "frame"),
        (lambda image: np.where(image > 100, np.nan, image.astype(float)), "NaN"),
        (lambda image: np.where(image > 100, np.inf, image.astype(float)), "infinite"),
        (lambda image: np.full_like(image, 7), "Every voxel"),
        (lambda image: image[:0], "no voxels"),
        (lambda image: image > 0, "type bool"),
        (lambda image: image.astype(complex), "type complex"),
    ],
)
def test_images_that_cannot_be_segmented_are_explained(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray, make, part: str
) -> None:
    with pytest.raises(InputError) as caught:
        engine.open_session(make(image), affine, "CT")
    assert part in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("affine", [np.diag([1.0, 0, 1, 1]), np.full((4, 4), np.nan), np.eye(3)])
def test_grids_that_lie_nowhere_are_refused(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    with pytest.raises(InputError):
        engine.open_session(image, affine, "CT")


def test_masks_on_another_grid_and_locks_without_masks_are_refused(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray
) -> None:
    with engine.open_session(image, affine, "CT") as session:
        with pytest.raises(InputError, match="shape"):
            session.segment(["liver"], masks={"liver": np.ones((3, 3, 3), dtype=bool)})
        with pytest.raises(InputError, match="no mask"):
            session.segment(["liver"], locked={"liver": block(image.shape, 2, 4)})
        with pytest.raises(PromptError, match="may be any of"):
            session.segment([], masks={"kidneys": block(image.shape, 2, 9)})
        with pytest.raises(InputError, match="no voxel"):
            session.segment(["liver"], roi=((500, 600), (0, 5), (0, 5)))


def test_the_structure_the_user_painted_comes_first(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    """Whatever the windows, and with the same answer."""
    masks = {name: block(image.shape, 3, 12) for name in ("left lung", "liver")}
    locked = {"liver": block(image.shape, 9, 12)}
    told: list[str] = []
    with engine.open_session(image, affine, "CT") as session:
        result = session.segment(masks=masks, locked=locked, on_structure=lambda name, mask: told.append(name))
        assert told[0] == "Liver"
        assert result.names == ("Left lung", "Liver")
        assert list(result.masks) == ["Left lung", "Liver"]
        again = session.segment(masks=masks)
    assert set(told) == {"Liver", "Left lung"}
    assert np.array_equal(result.masks["left lung"], again.masks["left lung"])


def test_an_unsaid_modality_is_guessed_aloud(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    with engine.open_session(np.clip(image * 8, -1024, 2500), affine) as session:
        assert session.modality == "CT"
        assert "CT" in session.warnings[0]


def test_where_a_guessed_modality_does_not_know_a_name_the_guess_is_named(
    engine: LocalEngine, image: np.ndarray, affine: np.ndarray
) -> None:
    shades = np.clip(image, 0, 255).astype(np.uint8)  # bytes, as ultrasound has them
    with engine.open_session(shades, affine) as session, pytest.raises(PromptError, match="Taken for US"):
        session.segment(["liver"])
    with engine.open_session(shades, affine, "US") as session, pytest.raises(PromptError) as refused:
        session.segment(["liver"])
    assert "Taken for" not in str(refused.value)


def test_a_closed_session_says_so(engine: LocalEngine, image: np.ndarray, affine: np.ndarray) -> None:
    session = engine.open_session(image, affine, "CT")
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.segment(["liver"])


def test_devices_that_are_not_there_are_named(tiny_model: Path) -> None:
    with pytest.raises(ResourceError, match="toaster"):
        open_engine(str(tiny_model), device="toaster")
    with pytest.raises(ResourceError, match="cuda:97"):
        open_engine(str(tiny_model), device="cuda:97")


def test_models_that_are_not_there_are_named() -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        open_engine("no-such-model", device="cpu")


def test_the_engine_says_what_it_is(engine: LocalEngine) -> None:
    info = engine.info()
    assert info.model == "tiny"
    assert "CT_Liver" in info.classes
    assert info.device.startswith("CPU")
    assert info.device_reason


def test_a_model_may_leave_its_fine_network_to_masks(
    tiny_model: Path, tmp_path: Path, image: np.ndarray, affine: np.ndarray
) -> None:
    """Its manifest says that the fine network is better only from a mask that a user drew."""
    folder = tmp_path / "coarse-first"
    shutil.copytree(tiny_model, folder)
    write_manifest(folder, replace(read_manifest(folder), name="coarse-first", text_stages="first"))
    drawn = block(image.shape, 8, 20)
    with (
        open_engine(str(folder), device="cpu") as opened,
        opened.open_session(image, affine, "CT") as session,
    ):
        typed = session.segment(["liver", "left kidney"])
        corrected = session.segment(["left kidney"], masks={"liver": drawn})
    assert "stage 2" not in typed.report.seconds
    assert corrected.report.structures["Liver"].source == "mask"
    assert {"stage 1", "stage 2"} <= set(corrected.report.seconds)
    assert typed.masks["Left kidney"].any()
    np.testing.assert_array_equal(corrected.masks["Left kidney"], typed.masks["Left kidney"])
