"""A model that was exported to ONNX gives the same logits in another program's runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CLASSES, write_tiny_model

from MedalSLib.errors import OutputError
from MedalSLib.network.bundle import open_model
from MedalSLib.network.onnx_export import export_onnx

pytest.importorskip("onnx")
Run = Callable[..., np.ndarray]


def runtime(path: Path) -> Run:
    """The graph in ONNX Runtime if it is there, else in OpenVINO."""
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        openvino = pytest.importorskip("openvino")
        compiled = openvino.Core().compile_model(str(path), "CPU")
        return lambda **inputs: compiled(inputs)[0]
    session = InferenceSession(str(path))
    return lambda **inputs: session.run(None, inputs)[0]


@pytest.mark.slow
def test_an_exported_model_gives_the_logits_of_the_network_for_any_number_of_names(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny", patch=(32, 32, 64), contrast=30.0)
    model = open_model(tmp_path / "tiny")
    files = export_onnx(model, tmp_path / "onnx")
    assert [file.name for file in files] == ["stage1.onnx", "stage2.onnx", "queries.npz", "model.json"]
    with np.load(tmp_path / "onnx" / "queries.npz", allow_pickle=False) as stored:
        classes, queries = stored["classes"].tolist(), stored["queries"]
    assert tuple(classes) == CLASSES
    facts = json.loads((tmp_path / "onnx" / "model.json").read_text())
    assert facts["stages"][0]["spacing_hwd"] == [1.5, 1.5, 3.0] and facts["windows"]["CT_Liver"] == "soft tissue"
    random = np.random.default_rng(0)
    image = (random.random((1, 1, 32, 32, 64)) * 255).astype(np.float32)
    run = runtime(files[0])
    for count, prompted in ((3, True), (1, False)):
        prompts = (random.random((1, count, 32, 32, 64)) > (0.5 if prompted else 1)).astype(np.float32)
        union = prompts.max(axis=1, keepdims=True)
        asked = np.ascontiguousarray(queries[None, :count])
        found = run(queries=asked, image=image, union_prompt=union, class_prompts=prompts)
        with torch.no_grad():
            expected = model.network("1")(*map(torch.from_numpy, (asked, image, union, prompts)))[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    with pytest.raises(OutputError):
        export_onnx(model, tmp_path / "onnx")
