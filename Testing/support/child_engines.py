"""Engines for a child process: the fake engine, with a few ways to misbehave that only a process can."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
from fake_engine import FakeEngine, FakeSession

from MedalSLib.errors import ModelError
from MedalSLib.run import Progress, RunRequest, RunResult


class WildEngine(FakeEngine):
    def open_session(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str | None = None) -> WildSession:
        session = WildSession(self, array_kji, modality)
        self.sessions.append(session)
        return session


class WildSession(FakeSession):
    """Dies by the prompt "die"; by "hang" reports that it has begun, and then listens to nobody for a minute."""

    def run(self, request: RunRequest, *, on_progress: Any = None, **callbacks: Any) -> RunResult:
        if "die" in request.prompts:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang" in request.prompts:
            on_progress(Progress("stage 1", 0.0))
            time.sleep(60)
        return super().run(request, on_progress=on_progress, **callbacks)


def make(model: str, device: str, fail: str = "", **options: Any) -> WildEngine:
    """The factory: `fail` is "", "model", "exit" or "slow"."""
    assert (model, device) == ("fake", "cpu")
    if fail == "model":
        raise ModelError("There is no model of this name.", "Choose another.")
    if fail == "exit":
        os._exit(3)
    if fail == "slow":
        time.sleep(300)
    return WildEngine(**options)
