"""Measure brush and scrolling in the page: `python Testing/view/measure_page.py` (needs what the story needs).

Times from a press of the mouse to the next picture of that view, and pictures a second while slices scroll, in a
Chromium on the same machine, for an image of 512 x 512 x 300; beside them the processor time that the server took.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import psutil
from conftest import CHROMIUM, FLAGS, SUPPORT
from playwright.sync_api import sync_playwright

PRESSES, SECONDS = 15, 5
LISTEN = """() => {
  const image = [...document.querySelectorAll('.layout-grid-item img')].pop()
  image.addEventListener('load', () => window.pictures.push(performance.now()))
  window.addEventListener('mousedown', () => { window.pictures = []; window.pressed = performance.now() }, true)
}"""


def main() -> None:
    """Print the figures."""
    command = [sys.executable, str(SUPPORT / "view_server.py"), "300", "512", "512"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=SUPPORT) as server,
        sync_playwright() as engine,
    ):
        assert server.stdout is not None
        page = engine.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS)).new_page()
        page.goto(next(line for line in server.stdout if line.startswith("http")))
        page.fill("#prompt", "liver, spleen")
        page.click("#run")
        page.locator("#message").filter(has_text="structures found").wait_for(timeout=120_000)
        page.click("#paint")
        page.evaluate(LISTEN)
        area, used = page.locator(".layout-grid-item").last.bounding_box(), psutil.Process(server.pid).cpu_times
        delays, seconds = [], []
        for number in range(PRESSES):
            page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * (0.3 + number / 40))
            time.sleep(2)
            before = used().user
            page.mouse.down()
            page.wait_for_function("window.pictures.length > 0")
            seconds.append(used().user - before)
            delays.append(page.evaluate("window.pictures[0] - window.pressed"))
            page.mouse.up()
            time.sleep(2)
        page.click("#paint")
        page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
        page.evaluate("window.pictures = []")
        end, before = time.monotonic() + SECONDS, used().user
        while time.monotonic() < end:
            page.mouse.wheel(0, 100)
            time.sleep(1 / 30)
        pictures = page.evaluate("window.pictures.length")
        lines = (
            f"press to picture: median {statistics.median(delays):.0f} ms, {min(delays):.0f} to {max(delays):.0f}",
            f"  of which the server computes, all views: {1000 * statistics.median(seconds):.0f} ms",
            f"scrolling: {pictures / SECONDS:.1f} pictures a second, server {(used().user - before) / SECONDS:.0%}",
        )
        sys.stdout.write("\n".join(lines) + "\n")
        server.terminate()


if __name__ == "__main__":
    main()
