"""The runner waits and lets the application process its events; here the application is an asyncio loop.

Code that waits runs in a greenlet of its own: `pump` leaves it for a moment, the loop goes on, and it is continued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import greenlet

Result = TypeVar("Result")
_MOMENT = 0.01
"""Seconds between two looks of waiting code at what it waits for."""


async def run_waiting(function: Callable[[], Result]) -> Result:
    """Return what a function returns that calls `pump` while it waits; the loop goes on meanwhile."""
    worker = greenlet.greenlet(function)
    result = worker.switch()
    while not worker.dead:
        await asyncio.sleep(_MOMENT)
        result = worker.switch()
    return result


def pump() -> None:
    """Let the loop go on for a moment; does nothing in code that `run_waiting` does not run."""
    parent = greenlet.getcurrent().parent
    if parent is not None:
        parent.switch()
