"""Preparing: both kinds of folders, parallel or not, interrupted and resumed, bad cases reported and not fatal."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from training_inputs import LEFT, RIGHT, body, challenge_folder, plain_folder

from MedalSLib.errors import CancelledError, InputError, OutputError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.training.case_reading import LoadedCase
from MedalSLib.training.case_store import CaseReader, chunk_and_block, foreground_locations
from MedalSLib.training.prepare import PrepareOptions, prepare_cases
from MedalSLib.training.prepared_folder import PreparedFolder, open_prepared
from MedalSLib.training.sources import find_sources
from MedalSLib.training.training_grid import to_training_grid

SPEC = StageSpec(2, (1.5, 1.5, 2.0), (32, 32, 32))


def prepared(source: Path, output: Path, workers: int = 0, modality: str = "") -> PreparedFolder:
    return prepare_cases(find_sources(source, modality), output, PrepareOptions(SPEC, workers=workers))


def test_challenge_cases_are_indexed_with_their_texts_and_foreground(tmp_path: Path) -> None:
    folder = prepared(challenge_folder(tmp_path / "data"), tmp_path / "out")
    assert [case.identifier for case in folder.cases] == ["CT_Toy_000", "CT_Toy_001", "CT_Toy_002"]
    assert folder.datasets["CT_Toy"].modality == "CT"
    assert folder.datasets["CT_Toy"].texts[1][0] == "Left kidney"
    assert folder.classes() == ("CT_Left kidney", "CT_Right kidney")
    record = folder.cases[0]
    image, labels = CaseReader(folder.root).whole(record)
    assert image.shape == record.shape_hwd == labels.shape
    for label, bright in ((LEFT, True), (RIGHT, False)):
        assert record.voxels[label] == np.count_nonzero(labels == label) > 100
        assert (image[labels == label].mean() > 120) == bright
    left, right = (np.argwhere(labels == label).mean(0) for label in (LEFT, RIGHT))
    assert left[1] > right[1]
    locations = CaseReader(folder.root).locations(record)
    assert all((labels[tuple(locations[label].T)] == label).all() for label in (LEFT, RIGHT))


def test_a_plain_folder_gives_the_same_voxels_as_the_challenge_files_of_the_same_bodies(tmp_path: Path) -> None:
    challenge = prepared(challenge_folder(tmp_path / "npz"), tmp_path / "a")
    plain = prepared(plain_folder(tmp_path / "nifti"), tmp_path / "b", modality="CT")
    assert plain.datasets["nifti"].texts[1][0] == "Left kidney"
    one, other = (CaseReader(folder.root).whole(folder.cases[0])[1] for folder in (challenge, plain))
    assert one.shape == other.shape
    assert np.mean(one == other) == 1.0


def test_challenge_cases_are_prepared_as_the_user_says_they_lie(tmp_path: Path) -> None:
    source, output = challenge_folder(tmp_path / "data", cases=1), tmp_path / "out"
    usual = CaseReader(output).whole(prepared(source, output).cases[0])
    turned = find_sources(source, orientation="RAS")
    case = prepare_cases(turned, output, PrepareOptions(SPEC, workers=0)).cases[0]  # not taken for done
    for one, other in zip(usual, CaseReader(output).whole(case), strict=True):
        assert np.array_equal(one[::-1, ::-1], other)
    with pytest.raises(InputError, match="their own orientation"):
        find_sources(plain_folder(tmp_path / "nifti"), orientation="RAS")
    with pytest.raises(InputError, match="RAR"):
        find_sources(source, orientation="RAR")


@pytest.mark.slow
def test_two_processes_prepare_the_same_as_one(tmp_path: Path) -> None:
    source = challenge_folder(tmp_path / "data")
    alone, together = prepared(source, tmp_path / "a"), prepared(source, tmp_path / "b", workers=2)
    assert alone.cases == together.cases
    for record in alone.cases:
        first, second = (CaseReader(folder.root).whole(record) for folder in (alone, together))
        assert np.array_equal(first[0], second[0])
        assert np.array_equal(first[1], second[1])


def test_an_interrupted_run_goes_on_where_it_was_and_gives_the_same(tmp_path: Path) -> None:
    source, stop = challenge_folder(tmp_path / "data"), threading.Event()
    output = tmp_path / "out"
    with pytest.raises(CancelledError):
        prepare_cases(find_sources(source), output, PrepareOptions(SPEC, workers=0), lambda *_: stop.set(), stop)
    done = sorted(path.parent.name for path in output.glob("cases/*/*/case.json"))
    assert done == ["CT_Toy_000"]
    leftover = output / "cases" / "CT_Toy" / ".preparing-1234-CT_Toy_001"
    leftover.mkdir()
    (output / "cases" / "CT_Toy" / "CT_Toy_002").mkdir()
    stamp = (output / "cases" / "CT_Toy" / "CT_Toy_000" / "case.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="prepare"):
        open_prepared(output)
    names: list[str] = []
    folder = prepare_cases(
        find_sources(source), output, PrepareOptions(SPEC, workers=0), lambda done, total, name: names.append(name)
    )
    assert names == ["CT_Toy_001", "CT_Toy_002"]
    assert not leftover.exists()
    assert (output / "cases" / "CT_Toy" / "CT_Toy_000" / "case.json").stat().st_mtime_ns == stamp
    assert open_prepared(output).cases == folder.cases == prepared(source, tmp_path / "fresh").cases


def test_a_changed_case_is_prepared_again(tmp_path: Path) -> None:
    source = challenge_folder(tmp_path / "data", cases=2)
    before = prepared(source, tmp_path / "out")
    image, labels = body(77)
    np.savez_compressed(source / "CT_Toy" / "CT_Toy_001.npz", imgs=image, gts=labels, spacing=np.array([1.5, 1.5, 2]))
    after = prepared(source, tmp_path / "out")
    assert after.cases[0] == before.cases[0]
    assert after.cases[1].voxels != before.cases[1].voxels


def test_bad_cases_are_reported_with_their_reason_and_the_others_are_prepared(tmp_path: Path) -> None:
    source = challenge_folder(tmp_path / "data", cases=2)
    (source / "CT_Toy" / "CT_Toy_broken.npz").write_bytes(b"not a zip file")
    image, _ = body(0)
    empty = np.zeros_like(image)
    np.savez_compressed(source / "CT_Toy" / "CT_Toy_empty.npz", imgs=image, gts=empty, spacing=np.ones(3))
    (source / "MR_Other").mkdir()
    np.savez_compressed(source / "MR_Other" / "MR_Other_1.npz", imgs=image, gts=empty, spacing=np.ones(3))
    folder = prepared(source, tmp_path / "out")
    assert len(folder.cases) == 2
    reasons = {entry["case"]: entry["reason"] for entry in json.loads((folder.root / "rejected.json").read_text())}
    assert set(reasons) == {"CT_Toy_broken", "CT_Toy_empty", "MR_Other/MR_Other_1.npz"}
    assert "none of the structures" in reasons["CT_Toy_empty"]


def test_pickled_arrays_are_never_opened(tmp_path: Path) -> None:
    source = challenge_folder(tmp_path / "data", cases=1)

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"open({str(tmp_path / 'harm')!r}, 'w')",)

    np.savez(source / "CT_Toy" / "CT_Toy_trap.npz", imgs=np.array([Trap()], dtype=object), spacing=np.ones(3))
    folder = prepared(source, tmp_path / "out")
    assert [case for case, _ in folder.rejected] == ["CT_Toy_trap"]
    assert not (tmp_path / "harm").exists()


def test_another_grid_or_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    source = challenge_folder(tmp_path / "data", cases=1)
    prepared(source, tmp_path / "out")
    with pytest.raises(InputError, match="another grid"):
        prepare_cases(find_sources(source), tmp_path / "out", PrepareOptions(StageSpec(1, (3, 3, 3), (32, 32, 32))))
    with pytest.raises(OutputError):
        prepared(source, source)


def test_images_without_labels_are_named_and_no_case_at_all_is_an_error(tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "data", cases=2)
    (source / "labels" / "case1.nii.gz").unlink()
    sources = find_sources(source)
    assert [case.identifier for case in sources.cases] == ["case0"]
    assert sources.unmatched == (("case1.nii.gz", "no labels of the same name"),)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        find_sources(tmp_path / "empty")


def test_a_model_that_sees_all_of_ct_in_one_window_gets_its_cases_in_it(tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "data", cases=1)
    means = {}
    for name, options in {
        "usual": PrepareOptions(SPEC, workers=0),
        "the model's": PrepareOptions(SPEC, ct_window="bone", workers=0),
        "the user's": PrepareOptions(SPEC, "soft tissue", ct_window="bone", workers=0),
    }.items():
        folder = prepare_cases(find_sources(source, "CT"), tmp_path / name, options)
        means[name] = float(CaseReader(folder.root).window(folder.cases[0], (0, 0, 0), (30, 30, 30))[0].mean())
    assert means["usual"] == means["the user's"] > means["the model's"] + 5


def test_windows_of_a_case_are_read_with_zeros_outside(tmp_path: Path) -> None:
    folder = prepared(challenge_folder(tmp_path / "data", cases=1), tmp_path / "out")
    reader, record = CaseReader(folder.root), folder.cases[0]
    image, labels = reader.whole(record)
    part, part_labels = reader.window(record, (-3, 5, 2), (10, 8, 9))
    assert not part[:3].any()
    assert np.array_equal(part[3:], image[:7, 5:13, 2:11])
    assert np.array_equal(part_labels[3:], labels[:7, 5:13, 2:11])
    assert not reader.window(record, (1000, 0, 0), (4, 4, 4))[0].any()


def test_chunks_follow_the_patch_and_blocks_fit_a_cache() -> None:
    chunk, block = chunk_and_block((300, 300, 300), (192, 192, 192), 2)
    assert np.prod(chunk) * 2 <= 4 << 20
    assert np.prod(block) * 2 <= 1 << 16
    assert all(b <= c <= 192 for b, c in zip(block, chunk, strict=True))
    assert chunk_and_block((10, 300, 300), (32, 32, 32), 2)[0] == (10, 32, 32)


def test_foreground_locations_are_drawn_without_repetition() -> None:
    labels = np.zeros((40, 40, 40), np.int16)
    labels[:30] = 1
    labels[35, 3, 3] = 2
    found = foreground_locations(labels, [1, 2, 3])
    assert set(found) == {1, 2}
    assert len(np.unique(found[1], axis=0)) == 10_000
    assert found[2].tolist() == [[35, 3, 3]]


def test_training_data_keep_their_size_where_inference_would_shrink_or_magnify() -> None:
    spec = StageSpec(2, (1.5, 1.5, 1.5), (32, 32, 32))
    image = np.full((120, 110, 100), 50, np.float32)
    labels = np.zeros(image.shape, np.int16)
    labels[20:90, 20:90, 20:90] = 1
    loaded = LoadedCase(image, labels, (1.5, 1.5, 1.5), (1,))
    for classes in (["CT_Liver", "CT_Spleen"], ["CT_Liver"]):
        found, found_labels, spacing = to_training_grid(loaded, classes, spec)
        assert found.shape == found_labels.shape == (120, 110, 100)
        assert spacing == (1.5, 1.5, 1.5)


def test_cases_are_cropped_to_what_is_not_zero_and_thick_slices_are_not_interpolated() -> None:
    spec = StageSpec(2, (1.0, 1.0, 1.0), (32, 32, 32))
    image = np.zeros((40, 40, 20), np.float32)
    image[4:38, 6:40, 2:18] = np.arange(16) + 10
    loaded = LoadedCase(image, (image > 0).astype(np.int16), (1.0, 1.0, 5.0), (1,))
    found, _, _ = to_training_grid(loaded, ["CT_Liver", "CT_Spleen"], spec)
    assert found.shape[:2] == (34, 34)
    assert found.shape[2] >= 32
    assert set(np.unique(found)) == set(np.arange(16) + 10.0)
