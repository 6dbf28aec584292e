"""The published assembly of both stages: each call and each result that was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import golden_inputs
import numpy as np
import pytest

from MedalSLib.inference.policy_published import StageCall, segment_published
from MedalSLib.inference.regions import challenge_spacing
from MedalSLib.vocabulary import structure

CASES = json.loads((Path(__file__).resolve().parents[1] / "golden" / "twostage.json").read_text())


@pytest.mark.parametrize("index", range(len(CASES)))
def test_every_recorded_call_and_result_is_met(index: int) -> None:
    case, expect = CASES[index]["case"], CASES[index]["expect"]
    keys = [f"{case['modality']}_{name}".replace("Liver tumor", "Liver tumors") for name in case["names"]]
    shape, count, calls = case["shape_dhw"], len(keys), []

    def run(call: StageCall) -> tuple[np.ndarray, np.ndarray | None]:
        calls.append(call)
        first = call.spec.stage == 1
        labels = golden_inputs.blobs(
            call.image_dhw.shape, count, case["seed"] + (not first), first and case["stage1_empty"]
        )
        return labels, golden_inputs.probability(call.image_dhw.shape, case["seed"]) if call.want_probability else None

    spacing = challenge_spacing(case["npz_spacing"], shape)
    filtered = [key for key in keys if structure(key).policy.postprocess]
    result = segment_published(
        golden_inputs.blocky_image(case["seed"], shape),
        spacing,
        keys,
        range(1, count + 1),
        run,
        instance=bool(case["instance_label"]),
        filtered=filtered,
    )
    assert list(spacing) == expect["out_spacing"]
    assert [described(call) for call in calls] == [
        {key: wanted[key] for key in ("stage", "shape", "spacing", "crop", "lowres", "return_max_prob")}
        for wanted in expect["calls"]
    ]
    found = result.labelmap
    assert np.bincount(found.ravel(), minlength=count + 1).tolist() == expect["seg_hist"]
    where = np.argwhere(found > 0)
    assert [where.min(0).tolist(), where.max(0).tolist()] == expect["seg_bbox"]
    assert where.sum(0).tolist() == expect["seg_sum_index"]


def described(call: StageCall) -> dict[str, Any]:
    return {
        "stage": str(call.spec.stage),
        "shape": list(call.image_dhw.shape),
        "spacing": list(call.spacing_hwd),
        "crop": list(call.spec.patch_hwd),
        "lowres": None if call.labels_dhw is None else np.bincount(call.labels_dhw.ravel()).tolist(),
        "return_max_prob": call.want_probability,
    }
