"""Whatever breaks - server, client, network, disk, memory - the image, the masks and the next run survive."""

# ruff: noqa: SIM117 - a server around a client reads better in two lines
from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bad_network import BadNetwork, Fault
from fake_engine import OUT_OF_MEMORY, FakeEngine
from service_support import (
    AFFINE,
    KEY,
    ROOT,
    Running,
    ServerProcess,
    make_image,
    running_server,
    same_result,
    small_settings,
    wait_until,
)

from MedalSLib.errors import CancelledError, InputError, MedalSError, ResourceError, ServiceError
from MedalSLib.run import RunResult
from MedalSLib.service.client import RemoteEngine, connect
from MedalSLib.service.encoding import array_bytes, canonical_image, chunk_bounds, digest_of, encode_chunk
from MedalSLib.service.protocol import ImageHeader, RunMessage, SessionRequest
from MedalSLib.service.run_queue import RunQueue
from MedalSLib.service.sessions import Run
from MedalSLib.service.store import Store
from MedalSLib.volume import BoxMask

pytestmark = pytest.mark.slow

IMAGE = make_image((16, 40, 32))
MASKS = {"Spleen": IMAGE > 500}
EXPECTED = FakeEngine(patches=10).open_session(IMAGE, AFFINE, "CT").segment(["liver"], MASKS)


@pytest.fixture(autouse=True)
def nothing_of_the_user_is_touched():
    image, mask = IMAGE.copy(), MASKS["Spleen"].copy()
    yield
    assert np.array_equal(IMAGE, image) and np.array_equal(MASKS["Spleen"], mask)


def works(engine: RemoteEngine) -> bool:
    with engine.open_session(IMAGE, AFFINE, "CT") as session:
        return same_result(session.segment(["liver"], MASKS), EXPECTED)


class Once:
    """A callback that does something the first time it is called at least half way."""

    def __init__(self, action) -> None:
        self.action = action
        self.fractions: list[float] = []
        self.done = False

    def __call__(self, progress) -> None:
        self.fractions.append(progress.fraction)
        if not self.done and progress.fraction >= 0.3:
            self.done = True
            self.action()


# ------------------------------------------------------------------------------------------------ the server is killed


@pytest.mark.slow
def test_a_server_killed_in_mid_run_and_started_again_gives_the_result() -> None:
    with ServerProcess(patches=10, seconds_per_patch=0.05) as server:
        with connect(server.url, KEY) as engine, engine.open_session(IMAGE, AFFINE, "CT") as session:

            def replace() -> None:
                server.kill()
                server.start()

            watch = Once(replace)
            assert same_result(session.segment(["liver"], MASKS, on_progress=watch), EXPECTED)
            assert watch.done and watch.fractions == sorted(watch.fractions)


@pytest.mark.slow
def test_a_server_killed_between_runs_is_found_again() -> None:
    with ServerProcess(patches=10) as server, connect(server.url, KEY) as engine:
        with engine.open_session(IMAGE, AFFINE, "CT") as session:
            first = session.segment(["liver"], MASKS)
            server.kill()
            server.start()
            assert same_result(session.segment(["liver"], MASKS), first)


def test_a_server_killed_in_mid_upload_gets_the_rest_from_the_start() -> None:
    with ServerProcess(patches=10) as server, connect(server.url, KEY) as engine:

        def replace() -> None:
            server.kill()
            server.start()

        with engine.open_session(IMAGE, AFFINE, "CT", on_progress=Once(replace)) as session:
            assert same_result(session.segment(["liver"], MASKS), EXPECTED)


@pytest.mark.slow
def test_a_server_that_stays_dead_is_named_and_the_session_works_when_it_is_back() -> None:
    with ServerProcess(patches=10) as server, connect(server.url, KEY, timeout=6.0) as engine:
        with engine.open_session(IMAGE, AFFINE, "CT") as session:
            server.kill()
            with pytest.raises(ServiceError, match="Nothing listens at") as raised:
                session.segment(["liver"], MASKS)
            assert "medals serve" in raised.value.remedy
            server.start()
            assert same_result(session.segment(["liver"], MASKS), EXPECTED)


@pytest.mark.slow
def test_a_server_that_is_shut_down_properly_in_mid_run_is_no_cancel() -> None:
    with ServerProcess(patches=10, seconds_per_patch=0.05) as server:
        with connect(server.url, KEY) as engine, engine.open_session(IMAGE, AFFINE, "CT") as session:

            def replace() -> None:
                assert server.process is not None
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(20)
                server.start()

            assert same_result(session.segment(["liver"], MASKS, on_progress=Once(replace)), EXPECTED)


# ------------------------------------------------------------------------------------------------ the client is killed

CLIENT = """
import sys
sys.path[:0] = {paths!r}
from service_support import AFFINE, make_image
from MedalSLib.service.client import connect
session = connect({url!r}, {key!r}).open_session(make_image((16, 40, 32)), AFFINE, "CT")
session.segment(["liver"], on_progress=lambda _: print("running", flush=True))
"""


def test_what_a_killed_client_leaves_behind_is_freed_and_its_run_stopped() -> None:
    fake = FakeEngine(patches=10_000, seconds_per_patch=0.02)
    with running_server(fake) as running:
        paths = [str(ROOT), str(ROOT / "Testing" / "support")]
        program = CLIENT.format(paths=paths, url=running.url, key=KEY)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None and client.stdout.readline() == "running\n"
            assert running.service.store.session_count() == 1
            client.send_signal(signal.SIGKILL)
        running.let_time_pass(running.service.settings.lease_seconds)
        wait_until(lambda: running.service.store.session_count() == 0 and running.service.queue.running is None)
        wait_until(lambda: running.service.store.used_bytes() == 0)
        wait_until(lambda: all(session.closed for session in fake.sessions))
        assert fake.patches_done < 10_000
        fake.patches, fake.seconds_per_patch = 10, 0.0
        with running.connect() as engine:
            assert works(engine)


def test_a_client_that_only_thinks_keeps_its_session() -> None:
    with running_server(FakeEngine(patches=10)) as running, running.connect() as engine:
        engine.limits = replace(engine.limits, lease_seconds=0.3)  # the client beats three times in this
        session = engine.open_session(IMAGE, AFFINE, "CT")
        stored = running.service.store._sessions["tester", session.id]
        for _ in range(3):
            before = stored.last_contact
            wait_until(lambda before=before: stored.last_contact > before)


def test_a_sign_of_life_renews_the_lease_and_without_one_the_session_ends() -> None:
    now = 0.0
    store = Store(small_settings(lease_seconds=10.0), lambda what: None, lambda: now)
    image = canonical_image(IMAGE)
    store.announce_image("me", digest_of(image), ImageHeader(image.dtype.str, image.shape))
    for index, (start, stop) in enumerate(chunk_bounds(image.nbytes, 4096)):
        store.put_chunk("me", digest_of(image), index, encode_chunk(array_bytes(image)[start:stop], image.itemsize))
    session, new = store.open_session(
        "me", "s", SessionRequest(digest_of(image), AFFINE.tolist()), FakeEngine().open_session
    )
    assert new
    for now in (9.0, 18.0, 27.0):  # noqa: B007 - the store's clock
        assert store.sweep() == [] and store.session("me", "s") is session
    now = 37.5
    assert store.sweep() == [session] and store.used_bytes() == 0


def test_a_session_nobody_uses_is_freed_although_its_client_lives_and_comes_back_by_itself() -> None:
    with (
        running_server(FakeEngine(patches=10), idle_seconds=1e3, lease_seconds=1e6) as running,
        running.connect() as engine,
    ):
        with engine.open_session(IMAGE, AFFINE, "CT") as session:
            running.let_time_pass(1e4)
            wait_until(lambda: running.service.store.session_count() == 0)
            assert same_result(session.segment(["liver"], MASKS), EXPECTED)


# ------------------------------------------------------------------------------------------------ the network is bad


@pytest.fixture
def network():
    with running_server(FakeEngine(patches=10, seconds_per_patch=0.03)) as running:
        with BadNetwork(int(running.url.rpartition(":")[2])) as bad:
            yield bad, running


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=3000, faults_left=5),
        Fault(cut_after=300, faults_left=5),
        Fault(cut_upload_after=6000, faults_left=8),
        Fault(delay=0.01),
    ],
    ids=["answers cut", "answers truncated", "uploads cut", "slow"],
)
def test_a_bad_network_changes_nothing(network: tuple[BadNetwork, Running], fault: Fault) -> None:
    bad, _ = network
    with connect(bad.url, KEY) as engine:
        bad.fault = fault
        assert works(engine)
        assert works(engine)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
def test_flipped_bits_give_the_right_result_or_an_error_that_says_so(
    network: tuple[BadNetwork, Running], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, running = network
    bad._random.seed(seed)
    monkeypatch.setattr("MedalSLib.service.event_stream.SILENCE_SECONDS", 3.0)
    with connect(bad.url, KEY, timeout=5.0) as engine:
        engine.transport.options = replace(engine.transport.options, read_seconds=2.0)
        bad.fault = Fault(corrupt=0.05, faults_left=12)
        for _ in range(3):
            try:
                assert works(engine)
            except MedalSError as error:
                assert error.cause
        bad.fault = Fault()
        assert works(engine)
    assert b'status="500"' not in running.service.metrics.text()


def test_a_cut_in_mid_run_is_taken_up_again_without_a_second_run(network: tuple[BadNetwork, Running]) -> None:
    bad, running = network
    with connect(bad.url, KEY) as engine, engine.open_session(IMAGE, AFFINE, "CT") as session:
        assert same_result(session.segment(["liver"], MASKS, on_progress=Once(bad.cut_all)), EXPECTED)
    assert running.service.engine._engine.patches_done == 10


def test_a_cut_between_structures_delivers_each_of_them_once(network: tuple[BadNetwork, Running]) -> None:
    bad, running = network
    resumed = threading.Event()
    running.service.engine._engine.before_structure = lambda name: name == "Liver" or resumed.wait(20)
    delivered: list[str] = []

    def cut_after_the_first(name: str, mask: BoxMask) -> None:
        delivered.append(name)
        assert mask == EXPECTED.box_masks[name]
        if not resumed.is_set():
            connections = bad.connections
            bad.cut_all()
            wait_until(lambda: bad.connections > connections)
            resumed.set()

    with connect(bad.url, KEY) as engine, engine.open_session(IMAGE, AFFINE, "CT") as session:
        assert same_result(session.segment(["liver"], MASKS, on_structure=cut_after_the_first), EXPECTED)
    assert delivered == ["Liver", "Spleen"]
    assert running.service.engine._engine.patches_done == 10


def test_an_upload_that_was_cut_goes_on_where_it_ended(network: tuple[BadNetwork, Running]) -> None:
    bad, running = network
    cancel = threading.Event()

    def stop_half_way(progress) -> None:
        if progress.fraction >= 0.5:
            cancel.set()

    with connect(bad.url, KEY) as engine:
        with pytest.raises(CancelledError):
            engine.open_session(IMAGE, AFFINE, "CT", on_progress=stop_half_way, cancel=cancel)
        fractions: list[float] = []
        engine.open_session(IMAGE, AFFINE, "CT", on_progress=lambda progress: fractions.append(progress.fraction))
        assert fractions[0] >= 0.4
    assert b'medals_requests_total{method="PUT",route="/v1/images/{digest}/chunks/{index}"' in (
        running.service.metrics.text()
    )


def test_a_network_that_is_gone_is_said_in_time_and_the_session_works_when_it_is_back(
    network: tuple[BadNetwork, Running],
) -> None:
    bad, _ = network
    with connect(bad.url, KEY, timeout=6.0) as engine, engine.open_session(IMAGE, AFFINE, "CT") as session:
        bad.fault.refuse = True
        bad.cut_all()
        with pytest.raises(ServiceError, match=r"was cut|failed"):
            session.segment(["liver"], MASKS)
        bad.fault.refuse = False
        assert same_result(session.segment(["liver"], MASKS), EXPECTED)


def test_cancel_is_heard_although_nothing_passes_any_more(network: tuple[BadNetwork, Running]) -> None:
    bad, _ = network
    cancel = threading.Event()
    with connect(bad.url, KEY, timeout=5.0) as engine:
        engine.transport.cancel_seconds = 0.3
        session = engine.open_session(IMAGE, AFFINE, "CT")

        def vanish() -> None:
            bad.fault.black_hole = True
            cancel.set()

        with pytest.raises(CancelledError):
            session.segment(["liver"], MASKS, on_progress=Once(vanish), cancel=cancel)
        bad.fault.black_hole = False
        assert same_result(session.segment(["liver"], MASKS), EXPECTED)


# ------------------------------------------------------------------------------------------------ cancel


@pytest.mark.parametrize("moment", ["before", "queued", "first patch", "last patch"])
def test_cancel_is_answered_within_one_patch_at_any_moment(moment: str) -> None:
    fake = FakeEngine(patches=10)
    cancel, released = threading.Event(), threading.Event()
    with running_server(fake) as running, running.connect() as engine:
        session = engine.open_session(IMAGE, AFFINE, "CT")
        blocker: threading.Thread | None = None
        # The engine waits after this many patches until the cancel has arrived at the server.
        done = {"first patch": 1, "last patch": 9}.get(moment)
        fake.before_patch = lambda patch: patch == done and running.service.queue.running.cancel.wait(60)
        if moment == "before":
            cancel.set()
        if moment == "queued":
            fake.before_structure = lambda name: released.wait(60)
            other = engine.open_session(IMAGE, AFFINE, "CT")
            blocker = threading.Thread(target=other.segment, args=(["liver"],))
            blocker.start()
            wait_until(lambda: fake.patches_done > 0)

        def watch(progress) -> None:
            waiting = progress.stage.startswith("waiting for the server, 1 before you")
            if waiting if moment == "queued" else progress.patch == done:
                cancel.set()

        with pytest.raises(CancelledError):
            session.segment(["liver"], MASKS, on_progress=watch, cancel=cancel)
        if done is not None:
            wait_until(lambda: running.service.queue.running is None)
            assert fake.patches_done == done
        if blocker is not None:
            released.set()
            blocker.join(60)
            assert fake.patches_done == 10, "the other's run was cancelled, or the cancelled one was run"
        fake.before_patch = lambda patch: None
        assert same_result(session.segment(["liver"], MASKS), EXPECTED)


def test_a_cancelled_upload_can_be_repeated() -> None:
    with running_server(FakeEngine(patches=10)) as running, running.connect() as engine:
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(CancelledError):
            engine.open_session(IMAGE, AFFINE, "CT", cancel=cancel)
        assert works(engine)


# ------------------------------------------------------------------------------------------------ disk and memory


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_under_the_audit_log_stops_no_run_and_is_reported() -> None:
    import requests

    with running_server(FakeEngine(patches=10), audit_file=Path("/dev/full")) as running, running.connect() as engine:
        assert works(engine)
        assert running.service.audit.failures >= 2
        assert requests.get(f"{running.url}/health", timeout=10).json() == {
            "status": "ok",
            "audit": "failing",
            "keys": "ok",
        }


def test_a_server_writes_nothing_to_disk_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    for name in ("TMPDIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with ServerProcess(patches=10) as server, connect(server.url, KEY) as engine:
        assert works(engine)
        assert server.process is not None
        assert not [one.path for one in psutil.Process(server.process.pid).open_files() if one.mode != "r"]
    assert not list(tmp_path.rglob("*"))


def test_memory_that_runs_out_in_a_run_is_explained_and_the_next_run_works() -> None:
    with running_server(FakeEngine(patches=10)) as running, running.connect() as engine:
        with engine.open_session(IMAGE, AFFINE, "CT") as session:
            with pytest.raises(ResourceError, match="ran out of memory"):
                session.segment([OUT_OF_MEMORY])
            assert same_result(session.segment(["liver"], MASKS), EXPECTED)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=str,
)
def test_low_memory_is_called_so_whoever_notices_it(error: Exception) -> None:
    fake = FakeEngine(patches=10, error=error)
    with running_server(fake) as running, running.connect() as engine:
        with engine.open_session(IMAGE, AFFINE, "CT") as session:
            with pytest.raises(ResourceError, match="ran out of memory"):
                session.segment(["liver"])
            fake.error = None
            assert same_result(session.segment(["liver"], MASKS), EXPECTED)


@pytest.mark.parametrize("where", ["upload", "open"])
def test_memory_that_runs_out_at_the_door_is_explained_and_the_next_try_works(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    fake = FakeEngine(patches=10)
    with running_server(fake) as running, running.connect() as engine:
        with monkeypatch.context() as patch:
            if where == "upload":
                patch.setattr(running.service.store, "_new_image", exhausted)
                patch.setattr("MedalSLib.service.store.decode_chunk", exhausted)
            else:
                patch.setattr(fake, "open_session", exhausted)
            with pytest.raises((ResourceError, ServiceError)):
                engine.open_session(IMAGE, AFFINE, "CT")
        assert works(engine)


def test_many_sessions_over_the_budget_all_give_their_result() -> None:
    images = [make_image((8, 16, 16), seed) for seed in range(20)]
    cost = images[0].size * (2 + 8)
    with running_server(FakeEngine(patches=2), memory_bytes=5 * cost) as running, running.connect() as engine:
        sessions = [engine.open_session(image, AFFINE, "CT") for image in images]
        assert running.service.store.session_count() <= 5
        for session, image in zip(sessions, images, strict=True):
            expected = FakeEngine(patches=2).open_session(image, AFFINE, "CT").segment(["liver"])
            assert same_result(session.segment(["liver"]), expected)
            assert running.service.store.used_bytes() <= 5 * cost
        engine.close()
        running.service.store.relieve()
        assert running.service.store.used_bytes() == 0


def test_a_budget_that_is_in_use_is_refused_with_its_reason_and_works_afterwards() -> None:
    fake = FakeEngine(patches=10_000, seconds_per_patch=0.01)
    image = make_image((8, 16, 16))
    with running_server(fake, memory_bytes=image.size * 12) as running, running.connect(timeout=6.0) as engine:
        session = engine.open_session(image, AFFINE, "CT")
        cancel = threading.Event()

        def run_until_cancelled() -> None:
            with pytest.raises(CancelledError):
                session.segment(["a"], cancel=cancel)

        runner = threading.Thread(target=run_until_cancelled)
        runner.start()
        wait_until(lambda: fake.patches_done > 0)
        with pytest.raises(ServiceError, match="memory is full with images that are in use") as raised:
            engine.open_session(make_image((8, 16, 16), 1), AFFINE, "CT")
        assert "Try again" in raised.value.remedy
        with pytest.raises(InputError, match="the server takes"):
            running.connect().open_session(make_image((64, 64, 64)), AFFINE, "CT")
        cancel.set()
        runner.join(20)
        fake.patches = 2
        engine.open_session(make_image((8, 16, 16), 1), AFFINE, "CT").segment(["liver"])


# ------------------------------------------------------------------------------------------------ many at once


@pytest.mark.slow
def test_a_full_queue_tells_its_position_and_everybody_gets_the_result() -> None:
    fake = FakeEngine(patches=5)
    waited = threading.Event()
    fake.before_structure = lambda name: waited.wait(60)  # the first run ends only when somebody was told to wait
    keys = tuple((f"user{number}", f"key-of-user-{number}") for number in range(4))
    results: list[RunResult] = []
    stages: set[str] = set()
    with running_server(fake, keys=keys, queue_length=3) as running:

        def watch(progress) -> None:
            stages.add(progress.stage)
            if progress.stage == "waiting for the server, 1 before you":
                waited.set()

        def work(key: str) -> None:
            with running.connect(key) as engine, engine.open_session(IMAGE, AFFINE, "CT") as session:
                for _ in range(3):
                    results.append(session.segment(["liver"], MASKS, on_progress=watch))

        threads = [threading.Thread(target=work, args=(key,)) for _, key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(results) == 12 and all(np.array_equal(one.labelmap, EXPECTED.labelmap) for one in results)
    assert "waiting for the server, 1 before you" in stages


def test_keys_take_turns_so_that_one_with_many_runs_does_not_hold_up_another() -> None:
    released = threading.Event()
    done: list[str] = []

    def work_on(run: Run) -> None:
        released.wait(60)
        done.append(run.id)
        run.publish("done", {}, state="done")

    queue = RunQueue(work_on, length=64, per_owner=8)
    runs = {name: Run(name, SimpleNamespace(owner=name[0]), RunMessage()) for name in ("a1", "a2", "a3", "b1", "b2")}
    queue.submit(runs["a1"])
    wait_until(lambda: queue.running is runs["a1"])
    for name in ("a2", "a3", "b1", "b2"):
        queue.submit(runs[name])
    expected = ["a1", "a2", "b1", "a3", "b2"]
    assert [queue.position(runs[name]) for name in expected] == [0, 1, 2, 3, 4]
    released.set()
    wait_until(lambda: len(done) == 5)
    queue.stop()
    assert done == expected
