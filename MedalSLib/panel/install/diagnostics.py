"""The text behind “Copy diagnostics”: versions, checks, the installers' last lines; no patient data, no key."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from MedalSLib import __version__
from MedalSLib.panel.install.preflight import Check
from MedalSLib.panel.install.system import SystemFacts

_LOG_LINES = 60


def diagnostics(facts: SystemFacts, checks: Iterable[Check], engine: str, log: Iterable[str]) -> str:
    """Return a report for a forum post or a mail to the administrator.

    Args:
        facts: This computer.
        checks: The checks before an installation.
        engine: Kind and device of the engine, in words.
        log: What the installers said; the last lines are taken.
    """
    lines = [
        f"Medal S {__version__}",
        f"3D Slicer {'.'.join(map(str, facts.slicer))}, Python {'.'.join(map(str, facts.python))}",
        f"{facts.system} {facts.machine}",
        f"Engine: {engine}",
        "",
        *(f"[{check.state}] {check.name}: {check.text}" for check in checks),
        "",
        f"torch {facts.torch or 'not installed'}",
        *(f"{name} {found or 'not installed'}" for name, found in facts.packages.items()),
    ]
    tail = list(log)[-_LOG_LINES:]
    if tail:
        lines += ["", "Last lines of the installation:", *tail]
    return anonymous("\n".join(lines))


def anonymous(text: str) -> str:
    """Return a text without the user's name: the home folder becomes "~"."""
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~").replace(home.replace("\\", "/"), "~")
    user = os.environ.get("USERNAME") or os.environ.get("USER") or ""
    return text.replace(f"/{user}/", "/~/").replace(f"\\{user}\\", "\\~\\") if user else text
