"""Names that a model brings itself, from the prompt to the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_tiny_model

from MedalSLib.engine import open_engine
from MedalSLib.errors import InputError
from MedalSLib.run import RunOptions


@pytest.fixture(scope="module")
def custom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "custom"
    write_tiny_model(folder, "custom", classes=("CT_Liver", "CT_Gallbladder wall"), contrast=30.0)
    return folder


def test_own_names_are_segmented_in_the_order_typed_with_windows_of_their_own(
    custom: Path, image: np.ndarray, affine: np.ndarray
) -> None:
    with open_engine(str(custom), device="cpu") as engine, engine.open_session(image, affine, "CT") as session:
        options = RunOptions(stages="first", windows={"gallbladder wall": "60/150"})
        result = session.segment(["the Gallbladder wall, liver"], options=options)
        assert result.names == ("Gallbladder wall", "Liver")
        assert result.report.structures["Gallbladder wall"].window == "L60 W150"
        assert result.report.structures["Liver"].window.startswith("soft tissue")
        assert result.masks["gallbladder wall"].shape == image.shape
        with pytest.raises(InputError, match="belongs to no known structure"):
            session.segment(["liver"], options=RunOptions(stages="first", windows={"odd lump": "60/150"}))
