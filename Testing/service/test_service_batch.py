"""A batch goes on where it ended, keeps a manifest, and loses nothing to a bad study or a dead worker."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_engine import UNKNOWN, FakeEngine, FakeSession
from service_support import ROOT, wait_until

from MedalSLib.errors import CancelledError, InputError, ModelError, OutputError, PromptError
from MedalSLib.service.batch import run_batch
from MedalSLib.service.batch_files import (
    MANIFEST,
    BatchJob,
    StudyOutcome,
    find_studies,
    read_manifest,
    result_names,
)
from MedalSLib.service.batch_lock import OWNER
from MedalSLib.service.batch_report import PAGE, TABLE, reasons_to_look, save_thumbnail
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.segmentation_reading import read_segmentation

nib = pytest.importorskip("nibabel")


class DyingEngine(FakeEngine):
    """Takes its process along, once for each study whose first voxel says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(patches=1)
        self.folder = folder

    def open_session(self, array_kji, affine_ras, modality=None) -> FakeSession:
        mark = self.folder / "died"
        if array_kji.flat[0] == 1234 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open_session(array_kji, affine_ras, modality)


def write_study(path: Path, first_voxel: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(len(path.name)).integers(-1000, 1000, (9, 8, 7)).astype(np.int16)
    array.flat[0] = first_voxel
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), path)
    return path


@pytest.fixture
def studies(tmp_path: Path) -> list[Path]:
    return [write_study(tmp_path / "in" / f"case{number}.nii.gz") for number in range(4)]


def job(folder: Path) -> BatchJob:
    return BatchJob(("Liver",), folder / "out", ".nii.gz", "CT")


def fake(_model: str, _device: str) -> FakeEngine:
    return FakeEngine(patches=1)


def ended(folder: Path) -> list[str]:
    return [one.study for one in read_manifest(folder / "out").values() if one.state != "started"]


def test_studies_are_done_once_and_only_what_is_missing_is_done_again(tmp_path: Path, studies: list[Path]) -> None:
    summary = run_batch(studies, job(tmp_path), engine_factory=fake)
    assert (summary.done, summary.skipped, summary.failures) == (4, 0, ())
    result = tmp_path / "out" / "case2.nii.gz"
    assert read_segmentation(result).grid.shape_kji == (7, 8, 9)
    assert run_batch(studies, job(tmp_path), engine_factory=lambda *_: pytest.fail("nothing to do")).skipped == 4
    result.unlink()
    seen: list[str] = []
    again = run_batch(
        studies, job(tmp_path), engine_factory=fake, on_outcome=lambda outcome, *_: seen.append(outcome.result)
    )
    assert (again.done, again.skipped, seen) == (1, 3, ["case2.nii.gz"])


def test_a_study_that_cannot_be_read_fails_alone_and_is_tried_again_unless_that_is_not_wanted(
    tmp_path: Path, studies: list[Path]
) -> None:
    studies[1].write_bytes(b"no image")
    summary = run_batch(studies, job(tmp_path), engine_factory=fake)
    assert summary.done == 3 and [Path(one.study) for one in summary.failures] == [studies[1]]
    assert summary.failures[0].cause
    again = run_batch(studies, job(tmp_path), engine_factory=fake, retry_failed=False)
    assert again.skipped == 4 and len(again.failed_before) == 1
    write_study(studies[1])
    assert run_batch(studies, job(tmp_path), engine_factory=fake).done == 1


def test_a_batch_that_was_interrupted_goes_on_even_if_its_last_line_was_cut(
    tmp_path: Path, studies: list[Path]
) -> None:
    cancel = threading.Event()
    with pytest.raises(CancelledError, match="go on where it ended"):
        run_batch(studies, job(tmp_path), engine_factory=fake, cancel=cancel, on_outcome=lambda *_: cancel.set())
    manifest = tmp_path / "out" / MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b'{"study": "cut o')
    summary = run_batch(studies, job(tmp_path), engine_factory=fake)
    assert (summary.done, summary.skipped) == (3, 1)
    assert {outcome.state for outcome in read_manifest(tmp_path / "out").values()} == {"done"}
    assert len(read_manifest(tmp_path / "out")) == 4


def test_studies_are_found_in_folders_and_lists_and_their_results_never_meet(tmp_path: Path) -> None:
    first, second = (write_study(tmp_path / "in" / name / "ct.nii.gz") for name in ("a", "b"))
    assert find_studies(tmp_path / "in") == (first, second)
    (tmp_path / "list.txt").write_text("# ours\nin/a/ct.nii.gz\n\n")
    assert find_studies(tmp_path / "list.txt") == (first,)
    assert result_names([first, second], ".seg.nrrd") == {first: "a__ct.seg.nrrd", second: "b__ct.seg.nrrd"}
    with pytest.raises(InputError, match="holds no image"):
        find_studies(tmp_path / "nothing")
    twins = [tmp_path / "in" / "CT.nrrd", tmp_path / "in" / "ct.nii.gz", tmp_path / "in" / "b" / "ct.nii.gz"]
    assert list(result_names(twins, ".npz").values()) == ["CT.nrrd.npz", "ct.nii.gz.npz", "b__ct.npz"]


def test_results_are_no_studies_and_replace_none(tmp_path: Path) -> None:
    study = write_study(tmp_path / "in" / "ct.nii.gz")
    before = study.read_bytes()
    inside = replace(job(tmp_path), output=tmp_path / "in" / "out")
    run_batch([study], inside, engine_factory=fake)
    (tmp_path / "in" / "ct.seg.nrrd").touch()
    assert find_studies(tmp_path / "in", inside.output) == (study,)
    with pytest.raises(InputError, match="would replace the study"):
        run_batch([study], replace(inside, output=tmp_path / "in", overwrite=True), engine_factory=fake)
    assert study.read_bytes() == before


def test_files_that_the_manifest_does_not_know_are_kept_unless_asked(tmp_path: Path, studies: list[Path]) -> None:
    mine = tmp_path / "out" / "case1.nii.gz"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    (failure,) = run_batch(studies, job(tmp_path), engine_factory=fake).failures
    assert mine.read_bytes() == b"mine" and failure.kind == "OutputError"
    again = run_batch(studies, replace(job(tmp_path), overwrite=True), engine_factory=fake)
    assert again.done == 1 and mine.read_bytes() != b"mine"


def test_a_result_that_a_killed_batch_wrote_last_is_made_again(tmp_path: Path, studies: list[Path]) -> None:
    run_batch(studies, job(tmp_path), engine_factory=fake)
    manifest = tmp_path / "out" / MANIFEST
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:-1]))
    again = run_batch(studies, job(tmp_path), engine_factory=fake)
    assert (again.done, again.skipped, again.failures) == (1, 3, ())


def test_the_results_of_another_batch_are_not_taken_for_this_one_s(tmp_path: Path, studies: list[Path]) -> None:
    run_batch(studies, job(tmp_path), engine_factory=fake)
    with pytest.raises(OutputError, match="results of another batch"):
        run_batch(studies, replace(job(tmp_path), prompts=("Spleen",)), engine_factory=fake)


def test_a_name_that_no_study_can_have_is_said_at_once_and_leaves_no_trace(tmp_path: Path, studies: list[Path]) -> None:
    wrong = replace(job(tmp_path), prompts=(UNKNOWN,))
    with pytest.raises(PromptError, match="names nothing"):
        run_batch(studies, wrong, engine_factory=fake)
    assert not ended(tmp_path)
    guessing = run_batch(studies, replace(wrong, modality=None), engine_factory=fake)
    assert {failure.kind for failure in guessing.failures} == {"PromptError"} and len(guessing.failures) == 4


def test_cancel_stops_within_a_study_and_the_study_is_done_again(tmp_path: Path, studies: list[Path]) -> None:
    cancel = threading.Event()
    engine = FakeEngine(patches=1000)
    with pytest.raises(CancelledError, match="go on where it ended"):
        run_batch(
            studies,
            job(tmp_path),
            engine_factory=lambda *_: engine,
            cancel=cancel,
            on_progress=lambda study, progress: cancel.set(),
        )
    assert engine.patches_done == 1 and not ended(tmp_path)
    assert run_batch(studies, job(tmp_path), engine_factory=fake).done == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_stops_the_batch_and_the_same_command_does_the_rest(
    tmp_path: Path, studies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    studies += [write_study(tmp_path / "in" / f"more{number}.nii.gz") for number in range(4)]
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise OutputError("The disk is full.", "Make room.")

        patch.setattr("MedalSLib.service.batch_study.write_or_keep", full)
        with pytest.raises(OutputError, match="give the same command again"):
            run_batch(studies, job(tmp_path), engine_factory=fake)
        assert len(ended(tmp_path)) == 3
    assert run_batch(studies, job(tmp_path), engine_factory=fake).done == 8


LOCKED = """
import sys, time
from pathlib import Path
from MedalSLib.service.batch_lock import only_batch_in
with only_batch_in(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_batch_in_the_folder_is_told_whose_the_first_is_and_a_killed_one_leaves_no_lock(
    tmp_path: Path, studies: list[Path]
) -> None:
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", LOCKED, str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        with pytest.raises(OutputError, match=rf"Another batch works .*process {other.pid}, begun 0 h 0 min ago"):
            run_batch(studies, job(tmp_path), engine_factory=fake)
        other.send_signal(signal.SIGKILL)
        other.wait(10)
    assert run_batch(studies, job(tmp_path), engine_factory=fake).done == 4
    assert not (tmp_path / "out" / OWNER).exists()


def outcome(number: int, edges: tuple[str, ...] = (), **volumes: float) -> StudyOutcome:
    return StudyOutcome(f"study {number}", "done", f"{number}.nii.gz", 1.0, volumes, edges=edges)


def test_the_summary_shows_first_what_is_cut_off_missing_or_far_from_the_rest() -> None:
    usual = [outcome(number, Liver=1500.0 + 20 * number, Spleen=200.0 + number) for number in range(8)]
    odd = [
        outcome(10, Liver=1500.0, Spleen=900.0),
        outcome(11, Liver=1510.0, Spleen=0.0),
        outcome(12, ("Liver",), Liver=1490.0, Spleen=210.0),
        StudyOutcome("study 13", "failed", cause="It is no image."),
    ]
    reasons = reasons_to_look([*usual, *odd])
    assert not any(reasons[one.study] for one in usual)
    assert [reasons[one.study] for one in odd] == [
        ("Spleen is larger than in the other studies",),
        ("no Spleen",),
        ("Liver reaches the edge of the image",),
        ("failed: It is no image.",),
    ]
    everywhere = [outcome(number, ("Aorta",), Aorta=90.0) for number in range(6)]
    assert not any(reasons_to_look(everywhere).values()), "an aorta ends at the edge of every image"


def test_a_batch_leaves_a_table_and_a_page_with_pictures(tmp_path: Path, studies: list[Path]) -> None:
    evil = write_study(tmp_path / "in" / "<b>bad.nii.gz")
    evil.write_bytes(b"no image")
    run_batch([*studies, evil], job(tmp_path), engine_factory=fake)
    with (tmp_path / "out" / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["failed", *["done"] * 4] and rows[0]["look at"].startswith("failed: ")
    assert all(float(row["Liver (ml)"]) > 0 and row["result"] for row in rows[1:])
    page = (tmp_path / "out" / PAGE).read_text()
    assert "&lt;b&gt;bad" in page and "<b>bad" not in page
    pictures = re.findall(r'src="([^"]+)"', page)
    assert len(pictures) == 4
    for picture in pictures:
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")


def test_a_picture_shows_the_mask_where_it_is(tmp_path: Path) -> None:
    from matplotlib.image import imread

    array = np.zeros((10, 6, 20), np.int16)
    mask = np.zeros(array.shape, bool)
    mask[8:, 3, :4] = True  # at the head, on the patient's right
    path = tmp_path / "p.png"
    grid = Grid(array.shape, np.diag([-1.0, -1.0, 1.0, 1.0]))  # i grows to the patient's left
    image = SimpleNamespace(array_kji=array, grid=grid)
    save_thumbnail(path, image, {"Liver": BoxMask.of(mask)}, {})
    picture = imread(path)[..., :3]
    shown = np.argwhere(np.ptp(picture, axis=2) > 0.05)
    assert len(shown) and shown[:, 0].max() < picture.shape[0] // 2, "the head is not up"
    assert shown[:, 1].max() < picture.shape[1] // 2, "the patient's right is not on the left"


def worker_paths() -> str:
    """Where Ray's workers find the tests' engines."""
    return os.pathsep.join([str(ROOT), str(ROOT / "Testing" / "support"), str(ROOT / "Testing" / "service")])


@pytest.fixture
def two_cpus() -> Iterator[None]:
    """A Ray of this machine with two CPUs."""
    ray = pytest.importorskip("ray", reason="needs the scale-out extra")
    paths = worker_paths()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_two_workers_on_ray_do_all_studies_and_one_that_dies_is_replaced(tmp_path: Path, studies: list[Path]) -> None:
    write_study(studies[2], first_voxel=1234)
    summary = run_batch(studies, job(tmp_path), workers=2, engine_factory=lambda *_: DyingEngine(tmp_path))
    assert (tmp_path / "died").exists()
    assert (summary.done, summary.failures) == (4, ())
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4


def slow_engine(_model: str, _device: str) -> FakeEngine:
    return FakeEngine(patches=10_000, seconds_per_patch=0.1)


def no_engine(_model: str, _device: str) -> FakeEngine:
    raise ModelError("There is no such model.", "Choose another.")


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_on_ray_a_missing_model_is_said_once_and_cancel_is_heard_in_mid_study(
    tmp_path: Path, studies: list[Path]
) -> None:
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    with pytest.raises(ModelError, match="no such model"):
        run_batch(studies, job(tmp_path), workers=2, engine_factory=lambda *_: no_engine("", ""))
    with pytest.raises(CancelledError):
        run_batch(
            studies,
            job(tmp_path),
            workers=2,
            cancel=cancel,
            engine_factory=lambda *_: FakeEngine(patches=10_000, seconds_per_patch=0.1),
        )
    assert not ended(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("two_cpus")
def test_more_workers_than_there_is_room_for_is_said_and_all_studies_are_done(
    tmp_path: Path, studies: list[Path]
) -> None:
    studies += [write_study(tmp_path / "in" / "one_more.nii.gz")]
    said: list[str] = []
    summary = run_batch(
        studies, job(tmp_path), workers=4, engine_factory=lambda *_: FakeEngine(patches=1), say=said.append
    )
    assert (summary.done, summary.failures) == (5, ())
    assert said == ["4 workers were asked for, and the cluster has 2 CPUs: 2 work at once."]


@pytest.mark.slow
def test_the_studies_of_a_lost_machine_are_done_on_another(tmp_path: Path, studies: list[Path]) -> None:
    ray = pytest.importorskip("ray", reason="needs the scale-out extra")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    studies += [write_study(tmp_path / "in" / f"more{number}.nii.gz") for number in range(2)]
    lost: list[int] = []

    def lose(outcome: StudyOutcome, number: int, total: int) -> None:
        if not lost:
            lost.append(number)
            cluster.remove_node(second, allow_graceful=False)

    try:
        ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": worker_paths()}})
        summary = run_batch(
            studies,
            job(tmp_path),
            workers=2,
            engine_factory=lambda *_: FakeEngine(patches=10, seconds_per_patch=0.1),
            on_outcome=lose,
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert lost and (summary.done, summary.failures) == (6, ())
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 6


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_batch_on_ray_that_was_stopped_or_killed_is_ended_by_the_same_command(tmp_path: Path, end: int) -> None:
    """The command as a user gives it, in a process group of its own, with the bundled model."""
    pytest.importorskip("ray", reason="needs the scale-out extra")
    pytest.importorskip("torch", reason="needs the engine extra")
    names = [f"study{number:02d}.nii.gz" for number in range(40)]
    for name in names:
        write_study(tmp_path / "in" / name)
    command = [sys.executable, "-m", "MedalSLib.cli", "batch", str(tmp_path / "in"), "--text", "liver", "-o"]
    command += [str(tmp_path / "out"), "--modality", "CT", "--workers", "2", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": worker_paths(), "RAY_ADDRESS": ""}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, start_new_session=True, text=True, **pipes) as first:
        wait_until(lambda: first.poll() is not None or len(ended(tmp_path)) >= 2, 240.0)
        first.send_signal(end)
        _, said = first.communicate(timeout=120)
    assert first.returncode == (130 if end == signal.SIGINT else -end), said
    before = {study: one for study, one in read_manifest(tmp_path / "out").items() if one.state == "done"}
    assert 2 <= len(before) < len(names), said
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    after = read_manifest(tmp_path / "out")
    assert set(after) == {str(tmp_path / "in" / name) for name in names}
    assert {one.state for one in after.values()} == {"done"}
    assert {study: after[study] for study in before} == before  # what was done is not done again
    assert len(list((tmp_path / "out").glob("*.seg.nrrd"))) == len(names)
