"""The figures of the starter's card come out of the commands that the card gives."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import slicerio

from MedalSLib.network import registry
from MedalSLib.network.bundle import open_model

DATA = Path(slicerio.__file__).parent / "data"


def card_commands() -> list[list[str]]:
    """The commands `medals ...` of the card, without "medals"."""
    return [shlex.split(line)[1:] for line in re.findall(r"^medals .*$", registry.show("starter").card, re.M)]


def card_dice(case: str, column: str = "Dice") -> dict[str, float]:
    """A column by structure of what the card's tables give of a case; F1 of nuclei stands in the column of Dice."""
    found, header = {}, []
    for line in registry.show("starter").card.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        elif {"structure", "case", column} <= set(header):
            row = dict(zip(header, cells, strict=True))
            if row["case"] == case and row[column]:
                name = re.fullmatch(r"(.+) \(\w+\)", row["structure"])
                assert name is not None, row["structure"]
                found[name[1]] = float(row[column].removesuffix(" (F1)"))
    return found


def test_every_figure_of_the_card_is_one_that_was_measured() -> None:
    scores = open_model("starter").manifest.scores
    for case, measured in scores.items():
        dice = measured.get("dice") or measured["f1"]
        assert card_dice(case) == {name: round(value, 2) for name, value in dice.items()}, case
        surface = {name: round(value, 2) for name, value in measured.get("surface dice", {}).items()}
        assert card_dice(case, "surface Dice") == surface, case


def test_every_structure_that_is_offered_was_found_in_a_scan_it_was_not_trained_on() -> None:
    manifest = open_model("starter").manifest
    scored = {name for measured in manifest.scores.values() for name in measured.get("dice") or measured["f1"]}
    assert {key.partition("_")[2] for key in manifest.classes} == scored


def _run_card(medals, case: str, image: str) -> None:
    """Run the pair of commands that begins with an image; their Dice are the card's."""
    commands = card_commands()
    if not card_dice(case):
        pytest.skip(f"the starter offers nothing in {case}")
    at = next(number for number, command in enumerate(commands) if command[:2] == ["segment", image])
    code, _, said = medals(*commands[at], "--device", "cpu")
    assert code == 0, said
    assert "upside down" not in said and "mirrored" not in said
    code, printed, said = medals(*commands[at + 1], "--json")
    assert code == 0, said
    found = {row["structure"].casefold(): row["dsc"] for row in json.loads(printed)["cases"]}
    for name, value in card_dice(case).items():
        assert found[name.casefold()] == pytest.approx(value, abs=0.0101), name


@pytest.mark.slow
def test_the_command_of_the_abdominal_case_gives_the_cards_figures(
    medals, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (reference / "cases").glob("CT_AMOS_*.npz"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    _run_card(medals, "AMOS", "CT_AMOS_amos_0018.npz")


@pytest.mark.slow
def test_the_command_of_the_chest_gives_the_cards_figures(
    medals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CTChest4.nrrd", "Segmentation.seg.nrrd"):
        shutil.copy(DATA / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    _run_card(medals, "CTChest4", "CTChest4.nrrd")


@pytest.mark.slow
def test_predict_takes_the_orientation_and_says_what_lies_wrong(medals, reference: Path, tmp_path: Path) -> None:
    case = reference / "cases" / "CT_AMOS_amos_0018.npz"
    assert medals("predict", case, tmp_path, "--orientation", "LXS")[0] == 3
    code, printed, said = medals("predict", case, tmp_path, "--device", "cpu", "--json")
    assert code == 0 and "upside down" in said
    assert any("back to front" in warning for warning in json.loads(printed)["cases"][0]["warnings"])
    code, printed, said = medals("predict", case, tmp_path, "--orientation", "LAS", "--overwrite", "--json")
    assert code == 0 and json.loads(printed)["cases"][0]["warnings"] == []
