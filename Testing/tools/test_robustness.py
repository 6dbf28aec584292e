"""A sample of the bench of damaged files and made-up command lines; `python -m tools.robustness` tries thousands."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from MedalSLib.cli.console import quiet_libraries
from tools.robustness.damaged_files import read_damaged
from tools.robustness.made_up_options import run_made_up

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="time limits need POSIX signals")


def test_damaged_files_are_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    with quiet_libraries():
        outcomes = read_damaged(tmp_path, 150, seed=1)
    assert outcomes.failures == []
    assert outcomes.counts["refused"] > 100 and outcomes.counts["read"] > 20


@pytest.mark.slow
def test_made_up_command_lines_end_in_an_exit_code_and_a_sentence(tmp_path: Path) -> None:
    assert run_made_up(tmp_path, 60, seed=1).failures == []
