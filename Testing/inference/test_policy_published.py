"""The published assembly of both stages: each call and each result that was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import golden_inputs
import numpy as np
import pytest
from published_stages import PUBLISHED_STAGES

from MedalSLib.inference.policy_published import segment_published
from MedalSLib.inference.regions import challenge_spacing
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.vocabulary import structure
from MedalSLib.volume.box import Box, shape_of

CASES = json.loads((Path(__file__).resolve().parents[1] / "golden" / "twostage.json").read_text())


@pytest.mark.parametrize("index", range(len(CASES)))
def test_every_recorded_call_and_result_is_met(index: int) -> None:
    case, expect = CASES[index]["case"], CASES[index]["expect"]
    keys = [f"{case['modality']}_{name}".replace("Liver tumor", "Liver tumors") for name in case["names"]]
    shape, count, calls = case["shape_dhw"], len(keys), []

    def run(
        spec: StageSpec, region: Box, prompts: np.ndarray | None, want_probability: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        size, first = shape_of(region), spec.stage == 1
        calls.append(
            {
                "stage": str(spec.stage),
                "shape": list(size),
                "crop": list(spec.patch_hwd),
                "lowres": None if prompts is None else np.bincount(prompts.ravel()).tolist(),
                "return_max_prob": want_probability,
            }
        )
        labels = golden_inputs.blobs(size, count, case["seed"] + (not first), first and case["stage1_empty"])
        return labels, golden_inputs.probability(size, case["seed"]) if want_probability else None

    spacing = challenge_spacing(case["npz_spacing"], shape)
    filtered = [key for key in keys if structure(key).policy.postprocess]
    instance = bool(case["instance_label"])
    found, _ = segment_published(
        shape,
        spacing,
        keys,
        range(1, count + 1),
        run,
        instance=instance,
        filtered=filtered,
        specs=PUBLISHED_STAGES,
    )
    found = (found > 0).astype(np.int16) if instance else found
    assert list(spacing) == expect["out_spacing"]
    assert all(wanted["spacing"] == list(spacing) for wanted in expect["calls"])
    assert calls == [
        {key: wanted[key] for key in ("stage", "shape", "crop", "lowres", "return_max_prob")}
        for wanted in expect["calls"]
    ]
    assert np.bincount(found.ravel(), minlength=count + 1).tolist() == expect["seg_hist"]
    where = np.argwhere(found > 0)
    assert [where.min(0).tolist(), where.max(0).tolist()] == expect["seg_bbox"]
    assert where.sum(0).tolist() == expect["seg_sum_index"]
