"""The panel with the real isolated engine: a child process that is killed, hangs, or cannot start."""

from __future__ import annotations

import time

import pytest


@pytest.fixture
def child(bench):
    """The bench with an engine in a child process; `options` may be changed before the first run."""
    from MedalSLib.service.child import open_isolated_engine

    options = {"patches": 20, "seconds_per_patch": 0.05}
    engines = []

    def start(choice, cancel):
        engine = open_isolated_engine(
            "fake", "cpu", cancel=cancel, factory="fake_engine:make", cancel_seconds=0.5, **options
        )
        engines.append(engine)
        return engine

    bench.model.engines.factories = dict.fromkeys(("isolated", "in-process", "remote"), start)
    bench.options, bench.engines = options, engines
    bench.type("liver")
    bench.view.prompt.completions.hide()
    yield bench
    bench.model.engines.close()


@pytest.mark.slow
def test_a_run_in_a_child_process_shows_its_progress_and_result(child):
    seen = set()
    child.during = lambda: seen.add(child.find("progressLabel").text)
    child.find("runButton").click()
    assert set(child.segments()) == {"Liver"}
    assert any("patch" in text for text in seen)


@pytest.mark.slow
def test_a_child_killed_in_mid_run_is_replaced_and_nothing_is_lost(child):
    child.find("runButton").click()
    before = child.mask("Liver")
    killed = []

    def kill():
        if child.model.run.fraction > 0.2 and not killed:
            killed.append(child.engines[0].child.pid)
            child.engines[0].child.kill()

    child.during = kill
    child.find("runButton").click()
    child.during = None
    assert killed and child.model.run.state == "idle"
    assert (child.mask("Liver") == before).all()
    child.find("runButton").click()
    assert child.find("messageLabel").text.startswith("✓")
    assert child.engines[0].child.pid not in (None, killed[0])


@pytest.mark.slow
def test_cancel_ends_a_run_in_a_child_and_the_next_one_works(child):
    child.options["seconds_per_patch"] = 0.2
    child.during = lambda: child.find("cancelButton").click() if child.model.run.fraction > 0 else None
    child.find("runButton").click()
    assert child.find("messageLabel").text == "The run was cancelled." and child.segments() == {}
    child.during = None
    child.find("runButton").click()
    assert set(child.segments()) == {"Liver"}


def test_a_child_that_has_no_model_is_explained(child):
    child.options["fail"] = "model"
    child.find("runButton").click()
    assert "There is no model of this name. Choose another." in child.find("messageLabel").text
    assert child.find("badge").text.startswith("⚠")


def test_waiting_for_a_child_that_never_starts_can_be_cancelled(child):
    child.options["fail"] = "slow"
    started = time.monotonic()
    child.during = lambda: child.find("cancelButton").click() if time.monotonic() - started > 1 else None
    child.find("runButton").click()
    assert child.model.run.state == "idle" and child.segments() == {}
