"""Text, masks and both are compared with the same user, and each way gets what its name says and nothing else."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicerio
import torch
from tiny_models import write_tiny_model

from MedalSLib.engine import open_engine
from MedalSLib.engine.local import LocalEngine
from MedalSLib.errors import InputError, OutputError
from MedalSLib.volume import BoxMask
from tools.interactive.correction_rounds import Simulation
from tools.interactive.corrections import next_correction
from tools.interactive.labelled_images import find_images, open_labelled
from tools.interactive.prompt_comparison import BOTH, MASK, PAINTING, TEXT, compare_prompts, refining_answer
from tools.interactive.prompt_report import curves_table, evaluate_prompts
from tools.interactive.text_ablation import without_texts
from tools.starter.held_out_cases import chest_case

pytestmark = pytest.mark.slow

SHAPE = (14, 20, 20)
LIVER, SPLEEN = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
LIVER[2:12, 2:12, 2:12] = True
SPLEEN[3:9, 13:19, 13:19] = True
TRUTHS = {"Liver": LIVER, "Spleen": SPLEEN}


class Recording:
    """A session that finds half of the truth by text, gives masks back as they are, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, np.ndarray]]] = []
        self.painted: list[dict[str, BoxMask]] = []

    def segment(self, prompts, masks=None, locked=None, *, painted=None, options=None, cancel=None):  # type: ignore[no-untyped-def]
        self.painted.append(painted or {})
        self.calls.append((list(prompts), {name: mask.copy() for name, mask in (masks or {}).items()}))
        found = {name: TRUTHS[name] & (np.arange(SHAPE[0]) < 6)[:, None, None] for name in prompts}
        return SimpleNamespace(masks=found | (masks or {}))


def test_each_way_begins_and_goes_on_as_its_name_says() -> None:
    session, silent = Recording(), Recording()
    seen: list[tuple[str, int, int]] = []
    curves = compare_prompts(
        session, silent, TRUTHS, (2.0, 1.0, 1.0), Simulation(2, "slice"), on_round=lambda *step: seen.append(step)
    )
    assert list(curves) == [TEXT, MASK, BOTH, PAINTING]
    assert len(set(curves[TEXT].dsc)) == 1
    assert curves[MASK].dsc[0] == 0
    for way in (BOTH, PAINTING):
        assert curves[way].dsc[0] == curves[TEXT].dsc[0]
        assert list(curves[way].dsc) == sorted(set(curves[way].dsc))
    assert session.calls[0] == (["Liver", "Spleen"], {})
    assert [list(masks) for _, masks in session.calls[1:]] == [["Liver"], ["Spleen"]] * 2
    assert [prompts for prompts, _ in silent.calls] == [["Liver"], ["Spleen"]] * 2
    assert all(list(masks) == prompts for prompts, masks in silent.calls)
    assert seen == [(way, done, 2) for way in (MASK, BOTH, PAINTING) for done in (1, 2)]


def test_a_refinement_carries_the_newest_correction_alone() -> None:
    session = Recording()
    locked = np.zeros(SHAPE, bool)
    locked[3, 4, 5] = True
    answer = refining_answer(session, None, None)
    answer({"Liver": LIVER}, {"Liver": locked})
    assert session.painted == [{"Liver": BoxMask.of(locked)}]

    again = locked.copy()
    again[10, 4, 5] = True
    answer({"Liver": LIVER}, {"Liver": again})
    assert session.painted[1] == {"Liver": BoxMask.of(again & ~locked)}
    answer({"Liver": LIVER}, {"Liver": again})
    assert len(session.painted) == 2  # nothing new, nothing to ask


def test_masks_alone_are_left_out_where_texts_cannot_be_silenced() -> None:
    assert list(compare_prompts(Recording(), None, TRUTHS, (1, 1, 1), Simulation(1))) == [TEXT, BOTH, PAINTING]


def test_a_slice_correction_paints_all_of_the_error_in_one_slice() -> None:
    found = LIVER.copy()
    found[6:] = False
    correction = next_correction(LIVER, found, (2, 1, 1), "slice")
    assert correction is not None
    assert correction.add
    slices = np.flatnonzero(correction.painted.any(axis=(1, 2)))
    assert len(slices) == 1
    assert (correction.painted[slices[0]] == LIVER[slices[0]]).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(folder, classes=("CT_Liver", "CT_Spleen", "MRI_Liver"), patch=(32, 32, 64), contrast=30.0)
    return folder


def test_a_silenced_model_has_one_query_for_every_text_and_the_other_keeps_its_own(model: Path) -> None:
    with LocalEngine(str(model), "cpu") as engine:
        texts = [("Liver", "CT"), ("Spleen", "CT")]
        spoken = engine.model.encode(texts)
        silent = without_texts(engine).model.encode(texts)
        assert torch.allclose(silent, spoken.mean(0).expand_as(spoken), atol=1e-6)
        assert not torch.allclose(spoken[0], spoken[1])
        assert torch.equal(engine.model.encode(texts), spoken)
        assert without_texts(engine).model.network("1") is engine.model.network("1")


def folders(root: Path) -> tuple[Path, Path]:
    """A challenge case with a liver, a spleen, and a structure the model does not know."""
    for name in ("gts", "images"):
        (root / name).mkdir()
    labels = LIVER * np.uint8(1) + SPLEEN * np.uint8(2)
    labels[0, 0, 0] = 3
    image = np.random.default_rng(0).integers(0, 60, SHAPE).astype(np.uint8) + labels * np.uint8(60)
    prompts = {"1": "Liver in abdominal CT", "2": "The spleen", "3": "Stomach", "instance_label": 0}
    np.savez(root / "gts" / "CT_Toy_1.npz", gts=labels, spacing=(1.0, 1.0, 2.0))
    np.savez(
        root / "images" / "CT_Toy_1.npz",
        imgs=image,
        spacing=(1.0, 1.0, 2.0),
        text_prompts=np.array(prompts, dtype=object),
    )
    return root / "gts", root / "images"


def evaluated(gts: Path, images: Path, out: Path | None, model: Path) -> dict[str, Any]:
    with open_engine(str(model), "cpu") as engine:
        return evaluate_prompts(engine, map(open_labelled, find_images(gts, images)), Simulation(2), out)


def test_a_folder_of_images_gives_a_table_a_summary_and_a_figure(model: Path, tmp_path: Path) -> None:
    gts, images = folders(tmp_path)
    out = tmp_path / "out"
    report = evaluated(gts, images, out, model)
    assert report["left_out"] == {"CT_Toy_1": ["Stomach"]}
    rows = list(csv.DictReader((out / "curves.csv").open()))
    assert len(rows) == 4 * 2 * 3
    both = [float(row["dsc"]) for row in rows if row["prompts"] == BOTH and row["round"] == "2"]
    assert report["mean"][BOTH]["dsc"][2] == pytest.approx(np.mean(both), abs=1e-6)
    assert json.loads((out / "curves.json").read_text())["mean"] == report["mean"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert f"{report['mean'][BOTH]['dsc'][2]:.3f}" in curves_table(report)
    with pytest.raises(OutputError, match=r"curves\.csv"):
        evaluated(gts, images, out, model)


def test_npz_images_lie_as_the_user_says(tmp_path: Path) -> None:
    (pair,) = find_images(*folders(tmp_path))
    usual, turned = open_labelled(pair), open_labelled(pair, "LAS")
    assert (usual.grid.orientation, turned.grid.orientation) == ("LPS", "LAS")
    assert all((turned.truths[name] == mask).all() for name, mask in usual.truths.items())


def test_a_model_that_knows_none_of_the_structures_is_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "other", classes=("MRI_Liver",))
    with pytest.raises(InputError, match="knows none"):
        evaluated(*folders(tmp_path), None, tmp_path / "other")


def test_the_held_out_chest_has_both_lungs_each_on_its_own_side() -> None:
    case = chest_case(Path(slicerio.__file__).parent / "data")
    assert set(case.truths) == {"Left lung", "Right lung"}
    right = {
        name: (case.grid.index_to_ras(np.argwhere(mask)[:, ::-1].mean(axis=0)))[0] for name, mask in case.truths.items()
    }
    assert right["Right lung"] > right["Left lung"] + 50
