"""The local, isolated engine: a child process that is started, watched, restarted, killed and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from fake_engine import FakeEngine
from service_support import AFFINE, ROOT, make_image, same_result, wait_until

from MedalSLib.errors import CancelledError, ModelError, ResourceError, ServiceError
from MedalSLib.service.child import (
    CRASHES_IN_A_ROW,
    ChildServer,
    IsolatedEngine,
    default_python,
    open_isolated_engine,
)
from MedalSLib.service.child_main import ChildConfig

pytestmark = pytest.mark.slow

FACTORY = "fake_engine:make"


def open_fake(**options: object) -> IsolatedEngine:
    return open_isolated_engine("fake", "cpu", factory=FACTORY, **options)


@pytest.fixture(scope="module")
def engine():
    with open_fake(patches=4) as opened:
        yield opened


def alive(pid: int | None) -> bool:
    return pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_the_child_gives_the_result_of_the_engine_in_this_process(engine: IsolatedEngine) -> None:
    image = make_image()
    with engine.open_session(image, AFFINE) as session:
        assert same_result(session.segment(["liver"]), FakeEngine().open_session(image, AFFINE).segment(["liver"]))


def test_the_key_shows_neither_in_the_arguments_nor_in_the_environment(engine: IsolatedEngine) -> None:
    process = psutil.Process(engine.child.pid)
    key = engine.transport.options.api_key
    assert len(key) > 40
    assert not any(key in text for text in [*process.cmdline(), *process.environ().values(), *engine.child.log_tail])


def test_the_child_listens_on_the_loopback_only(engine: IsolatedEngine) -> None:
    sockets = psutil.Process(engine.child.pid).net_connections("inet")
    listening = [one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_the_model_stays_warm_between_runs(engine: IsolatedEngine) -> None:
    before = engine.child.pid
    with engine.open_session(make_image(), AFFINE) as session:
        session.segment(["liver"])
        session.segment(["spleen"])
    assert engine.child.pid == before


def test_a_killed_child_is_started_again_and_the_session_goes_on() -> None:
    image = make_image()
    expected = FakeEngine().open_session(image, AFFINE).segment(["liver"])
    with open_fake(seconds_per_patch=0.05) as engine, engine.open_session(image, AFFINE) as session:
        first = engine.child.pid

        killed = threading.Event()

        def kill_once(_: object) -> None:
            if not killed.is_set():
                killed.set()
                os.kill(first, signal.SIGKILL)

        assert same_result(session.segment(["liver"], on_progress=kill_once), expected)
        assert engine.child.pid != first and engine.child.ended == "signal 9"


def test_a_run_that_kills_the_child_each_time_is_given_up_and_the_next_works() -> None:
    with open_fake(patches=3) as engine, engine.open_session(make_image(), AFFINE) as session:
        with pytest.raises(ServiceError, match=r"ended during the run \(signal 9\), and again"):
            session.segment(["die"])
        assert session.segment(["liver"]).masks["liver"].any()


def test_a_run_that_does_not_listen_to_cancel_is_killed_and_the_next_works() -> None:
    cancel = threading.Event()
    with open_fake(cancel_seconds=0.3) as engine, engine.open_session(make_image(), AFFINE) as session:
        first = engine.child.pid
        with pytest.raises(CancelledError):
            session.segment(["hang"], on_progress=lambda _: cancel.set(), cancel=cancel)
        wait_until(lambda: not alive(first))
        assert session.segment(["liver"]).masks["liver"].any()
        assert engine.child.pid != first


def test_a_cancel_that_is_heard_leaves_the_child_alone() -> None:
    cancel = threading.Event()
    with open_fake(patches=10_000, seconds_per_patch=0.02, cancel_seconds=60.0) as engine:
        first = engine.child.pid
        with engine.open_session(make_image(), AFFINE) as session, pytest.raises(CancelledError):
            session.segment(["liver"], on_progress=lambda _: cancel.set(), cancel=cancel)
        assert engine.child.pid == first and alive(first)


def test_closing_ends_the_child() -> None:
    engine = open_fake()
    pid = engine.child.pid
    assert alive(pid)
    engine.close()
    assert not alive(pid)


def test_a_child_that_cannot_start_says_why() -> None:
    with pytest.raises(ModelError, match="There is no model"):
        open_fake(fail="model")
    with pytest.raises(ResourceError, match="cannot be started"):
        open_isolated_engine(python="/no/such/python")
    with pytest.raises(ServiceError, match=r"ended 3 times in a row \(exit code 3"):
        open_fake(fail="exit")


IDLE_CHILD = "import sys; sys.stdin.readline(); print('{\"port\": 1}', flush=True); sys.stdin.read()"


@pytest.fixture
def idle_child():
    child = ChildServer([sys.executable, "-I", "-S", "-c", IDLE_CHILD], ChildConfig("key", os.getpid(), "", {}, ()))
    yield child
    child.close()


def crash(child: ChildServer, number: signal.Signals = signal.SIGKILL) -> None:
    child.url()
    pid = child.pid
    assert pid is not None
    os.kill(pid, number)
    wait_until(lambda: child.pid != pid)


def test_crashes_are_counted_since_the_child_last_worked(idle_child: ChildServer) -> None:
    for _ in range(CRASHES_IN_A_ROW + 2):
        crash(idle_child)
        idle_child.url()
        idle_child.forget_crashes()
    for _ in range(CRASHES_IN_A_ROW):
        crash(idle_child)
    wait_until(lambda: idle_child.given_up)
    assert "ended 3 times in a row (signal 9" in idle_child._error.cause
    assert "out of memory" in idle_child._error.remedy


def test_what_is_ended_because_it_does_not_heed_a_cancel_has_not_crashed(idle_child: ChildServer) -> None:
    for _ in range(CRASHES_IN_A_ROW + 2):
        idle_child.url()
        pid = idle_child.pid
        idle_child.kill()
        wait_until(lambda pid=pid: idle_child.pid != pid)
    assert idle_child.url() and not idle_child.given_up


def test_a_child_that_was_given_up_says_why_and_comes_back_when_it_is_asked_for_again(idle_child: ChildServer) -> None:
    for _ in range(CRASHES_IN_A_ROW):
        crash(idle_child, signal.SIGTERM)
    wait_until(lambda: idle_child.given_up)
    idle_child._thread.join(20)
    assert "out of memory" not in idle_child._error.remedy
    assert idle_child.url() and not idle_child.given_up


def test_waiting_for_a_slow_model_can_be_cancelled() -> None:
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(CancelledError):
        open_fake(fail="slow", cancel=cancel)  # the model would take five minutes, and then be there


PARENT = """
import sys, time
from fake_engine import make
from MedalSLib.service.child import open_isolated_engine
if __name__ == "__main__":
    import threading
    import numpy as np
    engine = open_isolated_engine("fake", "cpu", factory="fake_engine:make", patches=10000, seconds_per_patch=0.1)
    session = engine.open_session(np.arange(1000, dtype="i2").reshape(10, 10, 10), np.eye(4))
    threading.Thread(target=session.segment, args=(["hang"],), daemon=True).start()
    print(engine.child.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_parent_even_if_that_is_killed_in_mid_run(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "Testing" / "support")])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal_number)
        parent.wait(10)
    wait_until(lambda: not alive(pid))


def test_a_python_is_found() -> None:
    assert Path(default_python()).exists()


def test_slicer_s_python_is_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "PythonSlicer").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "SlicerApp-real"))
    assert default_python() == str(tmp_path / "bin" / "PythonSlicer")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "else" / "SlicerApp-real"))
    with pytest.raises(ResourceError, match="No Python was found"):
        default_python()
