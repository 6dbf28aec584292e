"""Engine and Session: the one interface that every front end uses.

- `interface`: `Engine`, `Session`, `EngineInfo`; requests and results are `MedalSLib.run`'s.
- `local.LocalEngine` is a model in this process (`loaded_model`, `device`, `computing`).
- `session.LocalSession` is an image on it: `checks` and `parsing` look at what comes in, `caches` keep what runs may
  use again, `corrections` what the user painted; `progress` and `memory_probe` watch.
- `challenge_cases.predict_case` puts the challenge's texts, spacing and labels around a session's run.
"""

from __future__ import annotations

import importlib
from typing import Any

from MedalSLib.engine.interface import Engine, EngineInfo, Session
from MedalSLib.run import Estimate, Progress, Report, RunOptions, RunRequest, RunResult, StructureReport

Options = RunOptions
"""The name under which callers of `Session.segment` know the choices of a run."""

__all__ = [
    "Engine",
    "EngineInfo",
    "Estimate",
    "Options",
    "Progress",
    "Report",
    "RunOptions",
    "RunRequest",
    "RunResult",
    "Session",
    "StructureReport",
    "open_engine",
]


def open_engine(model: str = "starter", device: str = "auto", **options: Any) -> Engine:
    """Open an engine: a bundled or installed model's name, a model folder or file, or the URL of a server.

    Args:
        model: "starter", the name of an installed model, a path, or "http(s)://host:port".
        device: "auto", "cpu", "cuda", "cuda:1" or "mps"; a server chooses its own.
        **options: For a server: `api_key`, `timeout`, `verify`.  In-process: `memory_limit_mb`, `threads`.

    Raises:
        ModelError: No such model, or it is damaged.
        ResourceError: The device or a package is missing.
        ServiceError: The server cannot be reached or refuses.
    """
    # Looked up by name: the rooms above (service) and torch stay out of this package's imports.
    if "://" in model:
        return importlib.import_module("MedalSLib.service.client").connect(model, **options)
    return importlib.import_module("MedalSLib.engine.local").LocalEngine(model, device, **options)
