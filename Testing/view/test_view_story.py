"""A person without 3D Slicer: names, masks, a stroke, a refinement, undo, and the file."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from view_browser import opened, served
from view_server import GROWN, LIVER, SPLEEN

from MedalSLib.volume.segmentation_reading import read_segmentation

pytestmark = pytest.mark.slow


def picture(page: Any, folder: Path, name: str) -> None:
    kept = os.environ.get("MEDALS_SCREENSHOTS")
    page.screenshot(path=str((Path(kept) if kept else folder) / f"view-{name}.png"))


def saved(page: Any, folder: Path) -> dict[str, np.ndarray]:
    """The masks of the file that the button gives."""
    with page.expect_download() as download:
        page.click("#save-seg-nrrd")
    path = folder / "saved.seg.nrrd"
    download.value.save_as(path)
    return {segment.name: segment.mask for segment in read_segmentation(path).segments}


def says(page: Any, place: str, text: str) -> None:
    """Wait until a part of the page says something."""
    page.locator(place).filter(has_text=re.compile(text)).wait_for()


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(*[a + (b - a) * step / 8 for a, b in zip(start, end, strict=True)])
    page.mouse.up()


def axial(page: Any, right: float, down: float) -> tuple[float, float]:
    """A place in the axial view, the last one of the page, as shares of its width and height."""
    area = page.locator(".layout-grid-item").last.bounding_box()
    return area["x"] + right * area["width"], area["y"] + down * area["height"]


def test_names_paint_refine_undo_and_save(page: Any, tmp_path: Path) -> None:
    page.fill("#prompt", "liver, spl")
    page.locator("#completions").get_by_text("Spleen", exact=True).click()
    says(page, ".v-chip", "Spleen")
    page.click("#run")
    page.locator("#progress").wait_for()
    says(page, "#message", "2 of 2 structures found")
    says(page, "#structures", r"Liver[\s\S]*found[\s\S]*Spleen[\s\S]*found")
    found = saved(page, tmp_path)
    assert np.array_equal(found["Liver"], LIVER) and np.array_equal(found["Spleen"], SPLEEN)
    picture(page, tmp_path, "1-found")

    page.click("#paint")
    drag(page, axial(page, 0.48, 0.45), axial(page, 0.48, 0.55))
    says(page, "#structures", "corrected")
    painted = saved(page, tmp_path)
    stroke = painted["Liver"] & ~LIVER
    assert stroke.any() and not (LIVER & ~painted["Liver"]).any()
    assert np.array_equal(painted["Spleen"], SPLEEN)
    picture(page, tmp_path, "2-painted")

    says(page, "#run", "Refine")
    page.click("#run")
    says(page, "#message", "1 refined")
    refined = saved(page, tmp_path)
    assert refined["Liver"][stroke].all() and (refined["Liver"] & GROWN & ~LIVER & ~stroke).any()
    picture(page, tmp_path, "3-refined")

    page.click("#undo")
    says(page, "#structures", "corrected")
    assert np.array_equal(saved(page, tmp_path)["Liver"], painted["Liver"])
    page.click("#undo")
    page.locator("#structures").filter(has_not_text="corrected").wait_for()
    assert np.array_equal(saved(page, tmp_path)["Liver"], LIVER)

    page.reload()
    says(page, "#structures", "Liver")
    assert page.input_value("#prompt").startswith("liver, Spleen")


def test_cancel_erase_with_a_key_and_load_a_file(page: Any, tmp_path: Path) -> None:
    page.fill("#prompt", "spleen")
    page.click("#run")
    page.click("#cancel")
    says(page, "#message", "cancelled")
    page.click("#run")
    says(page, "#message", "1 of 1 structures found")
    page.locator("#structures").get_by_text("Spleen", exact=True).click()
    page.keyboard.press("e")
    drag(page, axial(page, 0.25, 0.4), axial(page, 0.3, 0.4))
    says(page, "#structures", r"Spleen[\s\S]*corrected")
    erased = saved(page, tmp_path)["Spleen"]
    assert not (erased & ~SPLEEN).any() and (SPLEEN & ~erased).any()

    before = page.locator("#structures .v-list-item").count()
    page.set_input_files("#load", str(tmp_path / "saved.seg.nrrd"))
    page.wait_for_function(f"document.querySelectorAll('#structures .v-list-item').length === {2 * before}")
    both = saved(page, tmp_path)
    assert sum(np.array_equal(mask, erased) for mask in both.values()) == 2


def test_two_people_are_kept_apart_and_a_closed_page_is_freed(browser: Any) -> None:
    psutil = pytest.importorskip("psutil")
    with served("two") as (server, addresses):
        first, second = opened(browser, next(addresses)), opened(browser, next(addresses))
        one, other = psutil.Process(server.pid).children()
        first.fill("#prompt", "liver")
        first.click("#run")
        says(first, "#message", "1 of 1 structures found")
        assert second.input_value("#prompt") == "" and "Liver" not in second.inner_text("#structures")
        second.fill("#prompt", "spleen")
        second.close()
        gone, alive = psutil.wait_procs([one, other], timeout=60)
        assert (gone, alive) == ([other], [one])
        first.reload()
        says(first, "#structures", "Liver")
        assert first.input_value("#prompt") == "liver"


def test_nothing_is_answered_without_the_token(address: str) -> None:
    parts = urlsplit(address)
    root = f"http://{parts.netloc}"
    token = parts.path.split("/")[1]
    assert urllib.request.urlopen(address).status == 200
    for path in ("/", "/index.html", "/ws", "/paraview", f"/{token[:-1]}/index.html", f"/{token}x/ws", "/assets"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(root + path)
        assert refused.value.code == 404
