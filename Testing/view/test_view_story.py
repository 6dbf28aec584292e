"""A person without 3D Slicer: names, masks, a stroke, a refinement, undo, and the file."""

from __future__ import annotations

import http.client
import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from view_browser import opened, served
from view_server import GROWN, LIVER, SPLEEN

from MedalSLib.volume.segmentation_reading import read_segmentation

pytestmark = pytest.mark.slow
DRAWN = """() => {
  const drawing = [...document.querySelectorAll('canvas.stroke')].pop()
  const [across, down] = [drawing.width, drawing.height]
  return across > 0 && drawing.getContext('2d').getImageData(0, 0, across, down).data.some((value) => value > 0)
}"""


def picture(page: Any, folder: Path, name: str) -> None:
    kept = os.environ.get("MEDALS_SCREENSHOTS")
    page.screenshot(path=str((Path(kept) if kept else folder) / f"view-{name}.png"))


def saved(page: Any, folder: Path, suffix: str = ".seg.nrrd") -> dict[str, np.ndarray]:
    """The masks of the file that the button gives, by name."""
    with page.expect_download() as download:
        page.click("#save" + suffix.replace(".", "-"))
    path = folder / f"saved{suffix}"
    download.value.save_as(path)
    found = read_segmentation(path)
    grid = read_segmentation(folder / "saved.seg.nrrd").grid
    return {segment.name: segment.mask_on(found.grid, grid) for segment in found.segments}


def says(page: Any, place: str, text: str) -> None:
    """Wait until a part of the page says something."""
    page.locator(place).filter(has_text=re.compile(text)).wait_for()


def take(page: Any, key: str, tool: str) -> None:
    page.keyboard.press(key)
    page.locator(f"#{tool}.v-btn--active").wait_for()


def drag(page: Any, *places: tuple[float, float]) -> None:
    """Draw; it is seen before the server knows, and gives way to what the server painted."""
    page.mouse.move(*places[0])
    page.mouse.down()
    assert page.evaluate(DRAWN) or page.evaluate("trame.state.get('tool')") == "lasso"
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    assert page.evaluate(DRAWN)
    page.mouse.up()
    page.wait_for_function(f"!({DRAWN})()")


def axial(page: Any, right: float, down: float) -> tuple[float, float]:
    """A place in the axial view, the last one of the page, as shares of its width and height."""
    area = page.locator(".layout-grid-item").last.bounding_box()
    return area["x"] + right * area["width"], area["y"] + down * area["height"]


def test_names_paint_refine_undo_and_save(page: Any, tmp_path: Path) -> None:
    page.fill("#prompt", "liver, spl")
    page.locator("#completions").get_by_text("Spleen", exact=True).click()
    says(page, ".v-chip", "Spleen")
    page.press("#prompt", "Enter")
    page.locator("#progress").wait_for()
    says(page, "#message", "2 of 2 structures found")
    says(page, "#structures", r"Liver[\s\S]*found[\s\S]*Spleen[\s\S]*found")
    found = saved(page, tmp_path)
    assert np.array_equal(found["Liver"], LIVER) and np.array_equal(found["Spleen"], SPLEEN)
    picture(page, tmp_path, "1-found")

    take(page, "p", "paint")
    page.mouse.move(*axial(page, 0.48, 0.45))
    ring, area = page.locator("#ring").bounding_box(), page.locator(".layout-grid-item").last.bounding_box()
    assert ring["width"] == pytest.approx(8 / 192 * area["height"], abs=2.5)  # 8 mm; the image's 192 mm fill the view
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
    take(page, "e", "erase")
    drag(page, axial(page, 0.25, 0.4), axial(page, 0.3, 0.4))
    says(page, "#structures", r"Spleen[\s\S]*corrected")
    erased = saved(page, tmp_path)["Spleen"]
    assert not (erased & ~SPLEEN).any() and (SPLEEN & ~erased).any()

    before = page.locator("#structures .v-list-item").count()
    page.set_input_files("#load", str(tmp_path / "saved.seg.nrrd"))
    page.wait_for_function(f"document.querySelectorAll('#structures .v-list-item').length === {2 * before}")
    both = saved(page, tmp_path)
    assert sum(np.array_equal(mask, erased) for mask in both.values()) == 2


def test_keys_the_lasso_the_wheel_and_other_formats(page: Any, tmp_path: Path) -> None:
    page.fill("#prompt", "liver")
    page.click("#run")
    says(page, "#message", "1 of 1 structures found")
    page.locator("#structures").get_by_text("Liver", exact=True).click()
    before = saved(page, tmp_path)["Liver"]

    place = page.evaluate("trame.state.get('slice_Red').value")
    take(page, "l", "lasso")
    drag(page, *[axial(page, *place) for place in ((0.5, 0.4), (0.54, 0.4), (0.54, 0.6), (0.5, 0.6))])
    says(page, "#structures", "corrected")
    drawn = saved(page, tmp_path)["Liver"] & ~before
    assert np.flatnonzero(drawn.any(axis=(1, 2))).tolist() == [round(place / 4)]  # the slice in view
    high, wide = (int(np.ptp(np.flatnonzero(drawn.any(axis=axes)))) for axes in ((0, 2), (0, 1)))
    assert high == pytest.approx(0.2 * 96, abs=2) and wide == pytest.approx(0.04 * 217 / 2, abs=2)

    page.mouse.move(*axial(page, 0.45, 0.5))
    page.mouse.wheel(0, 300)
    page.wait_for_function(f"Math.abs(trame.state.get('slice_Red').value - {place} + 4) < 0.01")  # a slice of 4 mm
    page.keyboard.press("l")
    page.keyboard.press("a")
    says(page, "#message", "1 refined")
    added = saved(page, tmp_path)["Liver"]
    assert np.array_equal(added & GROWN, GROWN)
    page.mouse.move(*axial(page, 0.65, 0.5))
    page.keyboard.press("x")
    page.locator("#progress").wait_for()
    says(page, "#message", "1 refined")
    assert (added & ~saved(page, tmp_path)["Liver"]).any()

    page.keyboard.press("c")
    page.locator("#before.v-btn--active").wait_for()
    page.keyboard.press("c")
    page.keyboard.press("Shift+D")
    says(page, "#message", "doubtful slice")
    page.keyboard.press("Shift+S")
    says(page, "#message", "counts as right")

    last = saved(page, tmp_path)["Liver"]
    for suffix in (".nii.gz", ".dcm"):
        (same,) = saved(page, tmp_path, suffix).values()
        assert np.array_equal(same, last)


def test_two_people_are_kept_apart_and_a_closed_page_is_freed(browser: Any) -> None:
    psutil = pytest.importorskip("psutil")
    with served("two") as (server, addresses):
        first, second = opened(browser, next(addresses)), opened(browser, next(addresses))
        assert len(psutil.Process(server.pid).children()) == 2
        first.fill("#prompt", "liver")
        first.click("#run")
        says(first, "#message", "1 of 1 structures found")
        assert second.input_value("#prompt") == "" and "Liver" not in second.inner_text("#structures")
        second.fill("#prompt", "spleen")
        second.close()
        end = time.monotonic() + 60
        while len(psutil.Process(server.pid).children()) == 2 and time.monotonic() < end:
            time.sleep(0.2)
        assert len(psutil.Process(server.pid).children()) == 1
        first.reload()
        says(first, "#structures", "Liver")
        assert first.input_value("#prompt") == "liver"


def test_nothing_is_answered_without_the_token(address: str) -> None:
    parts = urlsplit(address)
    token = parts.path.split("/")[1]
    asks = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip

    def status(path: str) -> int:
        connection = http.client.HTTPConnection(parts.netloc)
        connection.request("GET", path, headers=asks if path.endswith("ws") else {})
        return connection.getresponse().status

    assert status(parts.path) == 200 and status(f"/{token}/ws") == 101
    for path in ("/", "/index.html", "/ws", "/paraview", f"/{token[:-1]}/index.html", f"/{token}x/ws", "/assets"):
        assert status(path) == 404
