"""Measure brush and scrolling in the page: `PYTHONPATH=.:Testing/support python Testing/view/measure_page.py`.

An image of 512 x 512 x 300, a Chromium on the same machine, a window of 1280 x 720.  From the press of the mouse to the
first frame after the one in which the place is painted, by the page itself and in the server's picture; pictures a
second while the wheel turns 30 times a second, and how long they go on when it has stopped.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import psutil
from playwright.async_api import async_playwright
from view_browser import CHROMIUM, FLAGS, served

PRESSES, SECONDS, TURNS = 12, 5, 30
LISTEN = """() => {
  const seen = window.seen = { pictures: [] }
  const view = [...document.querySelectorAll('.layout-grid-item')].pop()
  const [image, stroke] = [view.querySelector('img'), view.querySelector('canvas')]
  const colour = (source, x, y) => {
    if (!source.width) return false
    const copy = new OffscreenCanvas(1, 1).getContext('2d')
    copy.drawImage(source, -x * source.width / stroke.clientWidth, -y * source.height / stroke.clientHeight)
    const [red, green, blue, alpha] = copy.getImageData(0, 0, 1, 1).data
    return alpha > 0 && Math.max(red, green, blue) - Math.min(red, green, blue) > 25  // the image is grey
  }
  const shown = (name) => requestAnimationFrame(() => requestAnimationFrame(
    () => { seen[name] ??= performance.now() - seen.pressed }))
  image.addEventListener('load', () => {
    seen.pictures.push(performance.now())
    if (seen.at && colour(image, ...seen.at)) shown('server')
  })
  window.addEventListener('mousedown', (event) => {
    const area = stroke.getBoundingClientRect()
    Object.assign(seen, { pressed: event.timeStamp, at: [event.clientX - area.left, event.clientY - area.top] })
    seen.page = seen.server = undefined
    const look = () => colour(stroke, ...seen.at) ? shown('page') : setTimeout(look, 0)
    queueMicrotask(look)
  }, true)
}"""


async def main() -> None:
    """Print the figures."""
    with served("300", "512", "512") as (server, addresses):
        async with async_playwright() as engine:
            browser = await engine.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            await measure(await browser.new_page(), next(addresses), psutil.Process(server.pid))


async def measure(page, address: str, server: psutil.Process) -> None:
    await page.goto(address)
    await page.fill("#prompt", "liver, spleen")
    await page.click("#run")
    await page.locator("#message").filter(has_text="structures found").wait_for(timeout=120_000)
    await page.click("#paint")
    await page.evaluate(LISTEN)
    area = await page.locator(".layout-grid-item").last.bounding_box()
    x, y = area["x"] + area["width"] / 2, area["y"] + area["height"] * 0.3
    delays: dict[str, list[float]] = {"page": [], "server": []}
    for number in range(PRESSES):
        await page.mouse.move(x, y + area["height"] * number / 30)
        await asyncio.sleep(0.8)
        await page.mouse.down()
        await page.wait_for_function("seen.page && seen.server")
        for name, found in delays.items():
            found.append(await page.evaluate(f"seen.{name}"))
        await page.mouse.up()
        await asyncio.sleep(0.8)
    for name, found in delays.items():
        median, least, most = statistics.median(found), min(found), max(found)
        say(f"press to paint, by the {name}: median {median:.0f} ms, {least:.0f} to {most:.0f}")
    await page.click("#paint")
    await page.mouse.move(x, area["y"] + area["height"] / 2)
    await asyncio.sleep(0.8)
    await page.evaluate(
        "seen.pictures = []; window.addEventListener('wheel', () => seen.turned = performance.now(), true)"
    )
    start, before = time.monotonic(), server.cpu_times()
    psutil.cpu_percent()
    turns = []
    for number in range(SECONDS * TURNS):  # as a hand, which does not wait for what it sees
        turns.append(asyncio.create_task(page.mouse.wheel(0, 100 if number % 120 < 60 else -100)))
        await asyncio.sleep(max(0.0, start + (number + 1) / TURNS - time.monotonic()))
    pictures = await page.evaluate("seen.pictures.length")
    busy, after, seconds = psutil.cpu_percent(), server.cpu_times(), time.monotonic() - start
    await asyncio.gather(*turns)
    await asyncio.sleep(3)
    late = await page.evaluate("Math.max(0, ...seen.pictures) - seen.turned")
    used = (after.user + after.system - before.user - before.system) / max(1, pictures)
    say(f"scrolling: {pictures / seconds:.1f} pictures a second, the last {late:.0f} ms after the wheel's last turn")
    say(f"  the server's processor time: {1000 * used:.0f} ms a picture; the machine: {busy:.0f}% busy")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
