"""Requests and results travel as in version 1 of the protocol: its first release wrote these messages."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from MedalSLib.errors import InputError
from MedalSLib.run import Report, RunOptions, RunRequest, RunResult, StructureReport
from MedalSLib.service.encoding import DamagedError
from MedalSLib.service.protocol import PROTOCOL, ResultMessage, RunMessage, from_json, to_json
from MedalSLib.service.run_messages import decode_request, decode_result, encode_request, encode_result
from MedalSLib.volume import BoxArray, BoxMask

REQUEST = """{"prompts": ["liver"], "masks": {"Liver": {"shape": [2, 3, 4], "box": [[0, 2], [1, 3], [1, 4]],
"dtype": "bits", "data": "eAF7oAAAAeIBAQ=="}}, "locked": {"Liver": {"shape": [2, 3, 4], "box": [[0, 0], [0, 0], [0, 0]],
"dtype": "bits", "data": ""}}, "roi": [[1, 4], [0, 3], [0, 2]], "options": {"mode": "hybrid", "policy": "product",
"seed": 3, "instances": ["*"], "windows": {"Liver": "400/40"}, "postprocess": true, "stages": "both"},
"stream_structures": true}"""
RESULT = """{"masks": {"Liver": {"shape": [2, 3, 4], "box": [[0, 2], [1, 3], [1, 4]], "dtype": "bits",
"data": "eAF7oAAAAeIBAQ=="}}, "labelmap": {"shape": [2, 3, 4], "box": [[0, 2], [1, 3], [1, 4]], "dtype": "<u2",
"data": "eAFjZGAEQlQA4gMAAF4ABQ=="}, "names": ["Liver"], "instances": {"Liver": {"shape": [2, 3, 4],
"box": [[0, 2], [1, 3], [1, 4]], "dtype": "<u2", "data": "eAFjZGAEQlQA4gMAAF4ABQ=="}}, "report": {"model": "fake 1",
"device": "cpu", "modality": "CT", "seconds": {"total": 1.5}, "peak_memory_mb": null, "cached": ["x"], "steps": [],
"warnings": ["w"], "structures": {"Liver": {"name": "Liver", "found": true, "volume_ml": 0.5, "mean_probability": 0.75,
"window": "400/40", "source": "mask", "instances": 2}}, "understood": {"liver": ["Liver"]}, "seed": 3}}"""
SHAPE = (2, 3, 4)


def liver() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[0, 1, 1:4] = mask[1, 2, 2] = True
    return mask


def request() -> RunRequest:
    options = RunOptions(mode="hybrid", seed=3, instances=("*",), windows={"Liver": "400/40"})
    masks, locked = {"Liver": BoxMask.of(liver())}, {"Liver": BoxMask.empty(SHAPE)}
    return RunRequest(("liver",), masks, locked, {}, ((1, 4), (0, 3), (0, 2)), options)


def result() -> RunResult:
    structure = StructureReport("Liver", True, 0.5, 0.75, "400/40", "mask", 2)
    report = Report("fake 1", "cpu", "CT", {"total": 1.5}, None, ("x",), (), ("w",), {"Liver": structure},
                    {"liver": ("Liver",)}, 3)  # fmt: skip
    labels = BoxArray.of(liver().astype(np.uint16))
    return RunResult({"Liver": BoxMask.of(liver())}, labels, ("Liver",), report, {"Liver": labels})


def unpacked(message: Any) -> Any:
    """A message's JSON with its data unpacked: compressors may differ, what they hold may not."""
    if isinstance(message, dict):
        return {name: _bytes(value) if name == "data" else unpacked(value) for name, value in message.items()}
    return message


def _bytes(data: str) -> bytes:
    return zlib.decompress(base64.b64decode(data)) if data else b""


def test_a_request_is_written_and_read_as_in_version_1() -> None:
    assert PROTOCOL == 1
    written = json.loads(json.dumps(to_json(encode_request(request(), SHAPE, stream_structures=True))))
    assert written.pop("painted") == {}  # added later; an older server leaves it out
    assert unpacked(written) == unpacked(json.loads(REQUEST))
    message = from_json(RunMessage, json.loads(REQUEST))
    assert decode_request(message, SHAPE) == request() and message.stream_structures


def test_what_was_painted_since_the_last_result_travels_too() -> None:
    asked = replace(request(), painted={"Liver": BoxMask.of(liver())})
    written = json.loads(json.dumps(to_json(encode_request(asked, SHAPE))))
    assert decode_request(from_json(RunMessage, written), SHAPE) == asked


def test_a_result_is_written_and_read_as_in_version_1() -> None:
    written = json.loads(json.dumps(to_json(encode_result(result()))))
    for report in written["report"]["structures"].values():
        assert report.pop("worth_checking") == [] and report.pop("cut_off") == []  # added later
    assert unpacked(written) == unpacked(json.loads(RESULT))
    read = decode_result(from_json(ResultMessage, json.loads(RESULT)), SHAPE)
    assert read.box_masks == result().box_masks and (read.names, read.report) == (("Liver",), result().report)
    for labels in (read.labelmap, read.instances["Liver"].array()):
        assert labels.dtype == np.uint16 and np.array_equal(labels, liver())


def test_what_a_newer_server_adds_is_left_out_and_what_is_missing_or_of_another_type_is_noticed() -> None:
    values = json.loads(RESULT)
    values["novelty"] = values["report"]["novelty"] = 1
    assert from_json(ResultMessage, values).report == result().report
    for broken in ({"report": {}}, {"names": "Liver"}, {"masks": []}, {"labelmap": None}):
        with pytest.raises(ValueError, match="not the JSON of ResultMessage"):
            from_json(ResultMessage, values | broken)


def test_a_mask_on_another_grid_is_refused_on_both_sides() -> None:
    with pytest.raises(InputError, match=r"“Liver” has the shape \(2, 3, 4\)"):
        encode_request(request(), (2, 3, 5))
    with pytest.raises(DamagedError, match="the array has the shape"):
        decode_request(from_json(RunMessage, json.loads(REQUEST)), (2, 3, 5))
