"""`medals segment`: files in, files out, and nothing written when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import slicerio

from MedalSLib.errors import InputError
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.writing import write_segmentation


def test_a_segmentation_opens_with_names_codes_and_geometry(medals, ct: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "out.seg.nrrd", tmp_path / "out.png"
    code, printed, said = medals(
        "segment", ct, "--text", "liver, left kidney", "--modality", "CT", "--model", tiny_model, "-o", out,
        "--preview", picture, "--json",
    )  # fmt: skip
    assert code == 0, said
    report = json.loads(printed)
    assert set(report["structures"]) == {"Liver", "Left kidney"}
    assert report["understood"]["liver"] == ["Liver"]
    assert report["seconds"]["command"] > 0
    written = slicerio.read_segmentation(str(out))
    assert [segment["name"] for segment in written["segments"]] == ["Liver", "Left kidney"]
    assert written["segments"][0]["terminology"]["type"] == ["SCT", "10200004", "Liver"]
    image = read_image(ct)
    np.testing.assert_allclose(read_segmentation(out).grid.affine_ras, image.grid.affine_ras, atol=1e-4)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_corrected_mask_is_the_prompt_of_its_structure(medals, ct: Path, tiny_model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.seg.nrrd", tmp_path / "second.nii.gz"
    common = ("--modality", "CT", "--model", tiny_model, "--quiet")
    assert medals("segment", ct, "--text", "liver", "-o", first, *common)[0] == 0
    code, printed, said = medals("segment", ct, "--masks", first, "-o", second, "--json", *common)
    assert code == 0, said
    assert json.loads(printed)["structures"]["Liver"]["source"] == "mask"
    assert nibabel.load(second).shape == nibabel.load(ct).shape


def test_progress_goes_to_standard_error_and_quiet_means_quiet(
    medals, ct: Path, tiny_model: Path, tmp_path: Path
) -> None:
    common = ("segment", ct, "--text", "liver", "--modality", "CT", "--model", tiny_model, "--overwrite")
    _, printed, said = medals(*common, "-o", tmp_path / "a.nii.gz")
    assert printed == ""
    assert "stage 1" in said
    assert "Liver" in said
    assert medals(*common, "-o", tmp_path / "a.nii.gz", "--quiet") == (0, "", "")


@pytest.mark.parametrize("extension", [".seg.nrrd", ".nii.gz", ".npz"])
def test_an_output_that_exists_is_left_alone(
    medals, ct: Path, tiny_model: Path, tmp_path: Path, extension: str
) -> None:
    out = tmp_path / f"precious{extension}"
    out.write_text("precious")
    code, _, said = medals("segment", ct, "--text", "liver", "--model", tiny_model, "-o", out)
    assert code == 6
    assert "--overwrite" in said
    assert out.read_text() == "precious"


def broken_inputs(folder: Path) -> dict[str, Path]:
    good = np.random.default_rng(0).normal(0, 100, (8, 9, 10)).astype(np.float32)
    whole = folder / "whole.nii.gz"
    nibabel.save(nibabel.Nifti1Image(good, np.eye(4)), whole)
    paths = {name: folder / f"{name}.nii.gz" for name in ("truncated", "flat", "nan", "two", "four", "text")}
    paths["truncated"].write_bytes(whole.read_bytes()[:900])
    nibabel.save(nibabel.Nifti1Image(np.full((8, 8, 8), 5, np.int16), np.eye(4)), paths["flat"])
    nibabel.save(nibabel.Nifti1Image(np.where(good > 100, np.nan, good), np.eye(4)), paths["nan"])
    nibabel.save(nibabel.Nifti1Image(good[..., 0], np.eye(4)), paths["two"])
    nibabel.save(nibabel.Nifti1Image(np.stack([good, good], axis=3), np.eye(4)), paths["four"])
    paths["text"].write_text("not an image")
    paths["missing"] = folder / "missing.nii.gz"
    paths["spacing"] = folder / "spacing.nrrd"
    nrrd.write(str(paths["spacing"]), good, {"space": "left-posterior-superior", "space directions": np.zeros((3, 3))})
    return paths


@pytest.mark.parametrize("kind", ["truncated", "flat", "nan", "two", "four", "text", "missing", "spacing"])
def test_bad_images_are_explained_and_nothing_is_written(medals, tiny_model: Path, tmp_path: Path, kind: str) -> None:
    source = broken_inputs(tmp_path)[kind]
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "result.seg.nrrd"
    code, _, said = medals("segment", source, "--text", "liver", "--modality", "CT", "--model", tiny_model, "-o", out)
    assert code == 3, said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) >= 2, "a cause and a remedy"
    assert sorted(tmp_path.iterdir()) == before
    if kind == "four":
        assert "--frame" in said


def test_a_frame_of_a_four_dimensional_image_can_be_chosen(medals, tiny_model: Path, tmp_path: Path) -> None:
    source = broken_inputs(tmp_path)["four"]
    out = tmp_path / "frame.nii.gz"
    common = ("--text", "liver", "--modality", "CT", "--model", tiny_model, "-o", out)
    assert medals("segment", source, "--frame", 1, *common)[0] == 0
    assert nibabel.load(out).shape == (8, 9, 10)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--text", "flurb"], 4, "flurb"),
        (["--text", "livr, splean, gall bladder"], 4, "does not know"),
        (["--text", ""], 4, "Nothing"),
        (["--text", "liver", "--model", "no-such-model"], 5, "no-such-model"),
        (["--text", "liver", "--device", "abacus"], 7, "abacus"),
        (["--text", "liver", "--roi", "1:2"], 3, "0:100"),
        (["--text", "liver", "--roi", "900:910,0:5,0:5"], 3, "no voxel"),
        (["--text", "liver", "--window", "Liver"], 3, "LEVEL/WIDTH"),
        (["--text", "liver", "--window", "Liver=a/b"], 3, "window"),
        (["--text", "liver", "--modality", "xray"], 4, "xray"),
    ],
)
def test_wrong_requests_are_explained(
    medals, ct: Path, tiny_model: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    out = tmp_path / "result.seg.nrrd"
    extra = [] if "--model" in arguments else ["--model", tiny_model]
    modality = [] if "--modality" in arguments else ["--modality", "CT"]
    found, _, said = medals("segment", ct, "-o", out, *extra, *modality, *arguments)
    assert found == code, said
    assert words in said
    assert "Traceback" not in said
    assert not out.exists()


def test_a_mask_of_another_grid_is_resampled_or_refused(medals, ct: Path, tiny_model: Path, tmp_path: Path) -> None:
    coarse = np.zeros((10, 12, 12), dtype=np.uint8)
    coarse[3:7, 3:8, 3:8] = 1
    near, far = tmp_path / "near.seg.nrrd", tmp_path / "far.seg.nrrd"
    fields = {"space": "left-posterior-superior", "Segment0_ID": "s", "Segment0_Name": "Liver",
              "Segment0_LabelValue": "1", "Segment0_Layer": "0"}  # fmt: skip
    directions = np.diag([2.4, 2.5, 3.0])
    nrrd.write(str(near), coarse, {**fields, "space directions": directions, "space origin": np.zeros(3)})
    nrrd.write(str(far), coarse, {**fields, "space directions": directions, "space origin": np.full(3, 5000.0)})
    common = ("--modality", "CT", "--model", tiny_model, "--quiet")
    assert medals("segment", ct, "--masks", near, "-o", tmp_path / "a.nii.gz", *common)[0] == 0
    code, _, said = medals("segment", ct, "--masks", far, "-o", tmp_path / "b.nii.gz", *common)
    assert code == 3, said
    assert not (tmp_path / "b.nii.gz").exists()


def test_a_damaged_model_is_named(medals, ct: Path, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = broken / "stage2.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 255
    weights.write_bytes(bytes(content))
    code, _, said = medals(
        "segment", ct, "--text", "liver", "--modality", "CT", "--model", broken, "-o", tmp_path / "x.nii"
    )
    assert code == 5
    assert "stage2.safetensors" in said


def test_a_full_disk_leaves_nothing_behind(
    medals, ct: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    before = sorted(tmp_path.iterdir())
    code, _, said = medals(
        "segment", ct, "--text", "liver", "--modality", "CT", "--model", tiny_model, "-o", tmp_path / "x.seg.nrrd"
    )
    assert code == 6, said
    assert "space" in said
    assert sorted(tmp_path.iterdir()) == before


def write_masks(path: Path, image: Path, masks: dict[str, np.ndarray]) -> Path:
    write_segmentation(path, {name: BoxMask.of(mask) for name, mask in masks.items()}, read_image(image).grid)
    return path


def test_what_was_painted_is_carried_over_and_other_segments_are_left_out(
    medals, ct: Path, tiny_model: Path, tmp_path: Path
) -> None:
    shape = read_image(ct).grid.shape_kji
    before, paint = np.zeros(shape, bool), np.zeros(shape, bool)
    before[4:8, 6:12, 6:12], paint[8, 6:12, 6:12] = True, True
    corrected = write_masks(tmp_path / "now.seg.nrrd", ct, {"Liver": before | paint, "Spleen": before})
    common = ("--modality", "CT", "--model", tiny_model, "--quiet", "--json", "--text", "liver")
    found = {}
    for option, masks in (("--painted", {"Liver": paint}), ("--previous", {"Liver": before, "Spleen": before})):
        given, out = write_masks(tmp_path / f"{option[2:]}.seg.nrrd", ct, masks), tmp_path / f"out{option}.seg.nrrd"
        code, printed, said = medals("segment", ct, "--masks", corrected, option, given, "-o", out, *common)
        assert code == 0, said
        assert list(json.loads(printed)["structures"]) == ["Liver"]
        found[option] = read_segmentation(out).masks["Liver"]
        assert found[option][before | paint].all(), "paint that adds only adds"
    assert np.array_equal(found["--painted"], found["--previous"])


def test_a_name_that_nobody_knows_is_segmented_from_its_paint(
    medals, ct: Path, tiny_model: Path, tmp_path: Path
) -> None:
    paint = np.zeros(read_image(ct).grid.shape_kji, bool)
    paint[6, 8:14, 8:14] = True
    painted, nothing = (write_masks(tmp_path / f"{n}.seg.nrrd", ct, {"mass 1": paint}) for n in ("paint", "same"))
    out = tmp_path / "out.seg.nrrd"
    code, printed, said = medals(
        "segment", ct, "--masks", painted, "--painted", nothing, "--modality", "CT", "--model", tiny_model,
        "-o", out, "--json", "--quiet",
    )  # fmt: skip
    assert code == 0, said
    assert json.loads(printed)["structures"]["mass 1"]["source"] == "paint"
    assert read_segmentation(out).masks["mass 1"][paint].all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text", "liver", "--painted", "MASKS"], "Give it with --masks"),
        (["--masks", "MASKS", "--text", "spleen", "--painted", "MASKS"], "no segment for 'spleen'"),
        (["--masks", "MASKS", "--painted", "OTHER"], "no mask of that name"),
    ],
)
def test_corrections_that_do_not_fit_together_are_explained(
    medals, ct: Path, tiny_model: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    mask = np.zeros(read_image(ct).grid.shape_kji, bool)
    mask[4:8, 6:12, 6:12] = True
    files = {name: write_masks(tmp_path / f"{name}.seg.nrrd", ct, {segment: mask})
             for name, segment in (("MASKS", "Liver"), ("OTHER", "Spleen"))}  # fmt: skip
    given = [files.get(argument, argument) for argument in arguments]
    out = tmp_path / "out.seg.nrrd"
    code, _, said = medals("segment", ct, *given, "--modality", "CT", "--model", tiny_model, "-o", out)
    assert code == InputError.exit_code and words in said
    assert not out.exists()
