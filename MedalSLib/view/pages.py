"""One address for each image: a process of its own serves it, as Slicer's core has one scene in a process.

The process ends some time after its page was closed, which frees its memory; whoever opens the address again gets a new
one.  Until then a page that is loaded again finds the work as it was.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from MedalSLib.errors import ResourceError
from MedalSLib.view.server import HOST


class Pages:
    """Starts the processes, and leads who comes to an address to the page of its process.

    Args:
        commands: What serves each image and prints the address of its page.
    """

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._commands = {secrets.token_urlsafe(24): command for command in commands}
        self._opening = {token: asyncio.Lock() for token in self._commands}
        self._processes: dict[str, tuple[asyncio.subprocess.Process, str]] = {}

    async def serve(self, port: int, on_ready: Callable[[list[str]], None]) -> None:
        """Serve until cancelled.

        Args:
            port: Port on the loopback; 0 for a free one.
            on_ready: Called with the addresses, in the order of the commands.

        Raises:
            ResourceError: A page could not be opened, which its process has explained.
        """
        from aiohttp import web

        async def lead(request: web.Request) -> web.Response:
            token = request.match_info["token"]
            if token not in self._commands:
                raise web.HTTPNotFound
            raise web.HTTPFound(await self._open(token), headers={"Referrer-Policy": "no-referrer"})

        app = web.Application()
        app.add_routes([web.get("/{token}", lead)])
        runner = web.AppRunner(app, access_log=None, handle_signals=True)
        try:
            await asyncio.gather(*map(self._open, self._commands))
            await runner.setup()
            await web.TCPSite(runner, HOST, port).start()
            on_ready([f"http://{HOST}:{runner.addresses[0][1]}/{token}" for token in self._commands])
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            for process, _address in self._processes.values():
                if process.returncode is None:
                    process.terminate()
                    await process.wait()

    async def _open(self, token: str) -> str:
        """Return the address of a page, whose process is started if there is none."""
        async with self._opening[token]:
            process, address = self._processes.get(token, (None, ""))
            if process is None or process.returncode is not None:
                process = await asyncio.create_subprocess_exec(
                    *self._commands[token], stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
                )
                assert process.stdout is not None
                line = b"-"
                while line and not line.startswith(b"http"):
                    line = await process.stdout.readline()
                address = line.decode().strip()
                self._processes[token] = process, address
            if not address:
                raise ResourceError("A page could not be opened.", "Correct what is said above and start again.")
            return address
