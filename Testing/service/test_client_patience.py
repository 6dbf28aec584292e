"""A call ends within its time whatever the network does, and what was damaged on the way is not believed."""

# ruff: noqa: SIM117 - a server around a client reads better in two lines
from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import requests
from bad_network import BadNetwork
from fake_engine import FakeEngine
from service_support import AFFINE, KEY, make_image, running_server, same_result

from MedalSLib.errors import InputError, MedalSError, ServiceError
from MedalSLib.service.client import RemoteEngine, connect
from MedalSLib.service.client_errors import TransientError
from MedalSLib.service.encoding import body_digest
from MedalSLib.service.event_format import format_event
from MedalSLib.service.event_stream import EventReader, RunEvent, parse_events
from MedalSLib.service.protocol import DIGEST_HEADER
from MedalSLib.service.transport import Patience, Transport, TransportOptions

pytestmark = pytest.mark.slow

IMAGE = make_image()
EXPECTED = FakeEngine().open_session(IMAGE, AFFINE, "CT").segment(["liver"])


def ends(work: Callable[[], object], seconds: float = 40.0) -> BaseException | None:
    """Do something in a thread, which must end in time; returns what it raised."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            raised.append(None)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert raised, "it does not end"
    return raised[0]


def test_connections_that_died_in_silence_cost_one_try_and_not_the_call() -> None:
    with running_server(FakeEngine()) as running, BadNetwork(int(running.url.rpartition(":")[2])) as bad:
        with connect(bad.url, KEY) as engine, engine.open_session(IMAGE, AFFINE, "CT") as session:
            engine.transport.options = replace(engine.transport.options, read_seconds=1.0)
            session.segment(["spleen"])
            bad.swallow_all()
            assert same_result(session.segment(["liver"]), EXPECTED)


@pytest.mark.parametrize("moment", ["connect", "open", "estimate", "segment"])
def test_a_call_gives_up_in_its_time_when_nothing_passes_any_more(moment: str) -> None:
    with running_server(FakeEngine()) as running, BadNetwork(int(running.url.rpartition(":")[2])) as bad:
        engine = connect(bad.url, KEY, timeout=6.0)
        session = engine.open_session(IMAGE, AFFINE, "CT")
        bad.fault.black_hole = True
        work = {
            "connect": lambda: RemoteEngine(engine.transport, startup_seconds=1000.0),
            "open": lambda: engine.open_session(make_image(seed=1), AFFINE),
            "estimate": lambda: session.estimate(["liver"]),
            "segment": lambda: session.segment(["liver"]),
        }
        error = ends(work[moment])
        assert isinstance(error, ServiceError) and error.remedy
        bad.fault.black_hole = False


def test_progress_that_only_looks_like_some_ends_too() -> None:
    """The events' connection swallows everything; the server is asked, and says that the run is done."""
    with running_server(FakeEngine(patches=20, seconds_per_patch=0.1)) as running:
        with BadNetwork(int(running.url.rpartition(":")[2])) as bad, connect(bad.url, KEY) as engine:
            engine.transport.options = replace(engine.transport.options, read_seconds=1.0)
            session = engine.open_session(IMAGE, AFFINE, "CT")
            found: list[str] = []
            once = threading.Event()

            def swallow(_: object) -> None:
                if not once.is_set():
                    once.set()
                    bad.swallow_all()

            result = session.segment(["liver"], on_progress=swallow, on_structure=lambda name, mask: found.append(name))
            assert same_result(result, EXPECTED) and found == ["Liver"]


def test_an_answer_that_drips_for_ever_is_given_up() -> None:
    def drip(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=send, args=(client,), daemon=True).start()

    def send(client: socket.socket) -> None:
        with client, suppress(OSError):
            while True:
                client.sendall(b"H")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert isinstance(ends(lambda: connect(url, KEY, timeout=1.0)), ServiceError)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 503])
def test_a_damaged_answer_is_asked_for_again_whatever_it_says(status: int) -> None:
    transport = Transport("http://server", TransportOptions())
    body = json.dumps({"kind": "unauthorized", "cause": "The server does not know this API key."}).encode()
    answer = requests.Response()
    answer.status_code = status
    answer.headers.update({"content-type": "application/json", DIGEST_HEADER: body_digest(body)})
    for place in (0, 20, len(body) - 3):
        damaged = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        with pytest.raises(TransientError):
            transport._read(answer, damaged)
    transport.signed = True  # an earlier answer had a digest: one without has lost it on the way
    del answer.headers[DIGEST_HEADER]
    with pytest.raises(TransientError):
        transport._read(answer, body)


def test_a_flipped_bit_in_an_event_is_noticed() -> None:
    text = format_event(7, "progress", '{"stage": "stage 1", "fraction": 0.5}').encode()
    assert list(parse_events([text])) == [RunEvent(7, "progress", {"stage": "stage 1", "fraction": 0.5})]
    for place in range(len(text)):
        for bit in range(8):
            damaged = text[:place] + bytes([text[place] ^ (1 << bit)]) + text[place + 1 :]
            with suppress(ValueError):
                events = list(parse_events([damaged]))
                assert all(event is None or event.number in (0, 7) for event in events), (place, bit)


def test_events_that_were_missed_do_not_keep_a_run_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a flipped bit in an event's number: the server has no later event to send, again and again."""
    read = EventReader._read_stream

    def skip_ahead(reader: EventReader):
        reader._last = 10**6
        return read(reader)

    monkeypatch.setattr(EventReader, "_read_stream", skip_ahead)
    with running_server(FakeEngine()) as running, running.connect() as engine:
        session = engine.open_session(IMAGE, AFFINE, "CT")
        results = []
        assert ends(lambda: results.append(session.segment(["liver"]))) is None
        assert same_result(results[0], EXPECTED)
        assert isinstance(ends(lambda: session.segment(["unknown"])), MedalSError)


class SlowEngine(FakeEngine):
    """Takes longer to open an image than a client waits for an answer."""

    def open_session(self, array_kji, affine_ras, modality=None):
        time.sleep(8.0)
        return super().open_session(array_kji, affine_ras, modality)


def test_an_image_that_takes_long_to_open_is_opened_once_and_what_is_wrong_with_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("MedalSLib.service.server.ANSWER_SECONDS", 0.2)
    engine = SlowEngine()
    with running_server(engine) as running, running.connect(timeout=6.0) as remote:
        session = remote.open_session(IMAGE, AFFINE, "CT")
        assert same_result(session.segment(["liver"]), EXPECTED) and len(engine.opened) == 1
        with pytest.raises(InputError, match="one value everywhere"):
            remote.open_session(np.zeros_like(IMAGE), AFFINE)


def test_patience_is_renewed_by_progress_alone() -> None:
    patience = Patience(100.0)
    before = patience.left
    assert before <= 100.0 and patience.left <= before
    patience.renew()
    assert patience.left >= before
