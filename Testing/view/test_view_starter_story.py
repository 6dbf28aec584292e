"""The bundled model in the page, on a real CT, by the command of the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from view_browser import opened

from MedalSLib.volume.segmentation_reading import read_segmentation

pytestmark = pytest.mark.slow


def test_the_starter_finds_lungs_refines_one_and_keeps_the_work_over_a_reload(browser: Any, tmp_path: Path) -> None:
    data = Path(pytest.importorskip("slicerio").__file__).parent / "data"
    command = [sys.executable, "-m", "MedalSLib.cli", "view", str(data / "CTChest4.nrrd")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            address = next(word for line in process.stderr for word in line.split() if word.startswith("http"))
            page = opened(browser, address)
            page.set_default_timeout(240_000)
            page.fill("#prompt", "lungs")
            page.press("#prompt", "Enter")
            page.locator("#message").filter(has_text="2 of 2 structures found").wait_for()
            area = page.locator(".layout-grid-item").last.bounding_box()
            middle, down = area["x"] + 0.5 * area["width"], area["y"] + 0.5 * area["height"]
            page.click("#paint")
            page.locator("#paint.v-btn--active").wait_for()
            page.mouse.move(middle, down)
            page.mouse.down()
            page.mouse.move(middle, down - 20, steps=4)
            page.mouse.up()
            page.locator("#run").filter(has_text="Refine").click()
            page.locator("#message").filter(has_text="1 refined").wait_for()
            page.reload()
            page.locator("#structures").filter(has_text="refined").wait_for()
            with page.expect_download() as download:
                page.click("#save-seg-nrrd")
            download.value.save_as(tmp_path / "lungs.seg.nrrd")
        finally:
            process.terminate()
    segments = read_segmentation(tmp_path / "lungs.seg.nrrd").segments
    volumes = {one.name: np.count_nonzero(one.mask) for one in segments}
    assert volumes.keys() == {"Right lung", "Left lung"}
    assert 0.5 < volumes["Right lung"] / volumes["Left lung"] < 2
