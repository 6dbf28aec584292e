"""Hostile load: what one client sends, announces, holds open or does not read takes nothing from the others."""

# ruff: noqa: SIM117 - a server around a client reads better in two lines
from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import requests
import trustme
from fake_engine import FakeEngine
from service_support import AFFINE, KEY, Running, make_image, running_server, small_settings, wait_until

from MedalSLib.errors import ServiceError
from MedalSLib.service.client import connect
from MedalSLib.service.connections import Door
from MedalSLib.service.encoding import encode_mask
from MedalSLib.service.serving import bind
from MedalSLib.volume.mask import BoxMask

pytestmark = pytest.mark.slow

KEYS = (("greedy", "key-of-the-greedy-one"), ("tester", KEY))
GREEDY = KEYS[0][1]
MIB = 1 << 20
NOISE = np.random.default_rng(0).random((64, 640, 640)) > 0.5
"""A mask that cannot be compressed: 4 MiB of base64."""


def call(running: Running, method: str, path: str, key: str = KEY, **values) -> requests.Response:
    headers = values.pop("headers", {}) | {"Authorization": f"Bearer {key}"}
    return requests.request(method, running.url + path, headers=headers, timeout=20, **values)


def well(running: Running) -> bool:
    """Whether the server says on a fresh connection that it is well."""
    return requests.get(running.url + "/health", timeout=20, verify=False).status_code == 200


@contextmanager
def raw_connections(
    running: Running, count: int, sent: bytes = b"", receive_buffer: int = 0
) -> Iterator[list[socket.socket]]:
    """So many connections, each of which has sent something and then says nothing."""
    port = int(running.url.rpartition(":")[2])
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in opened:
            if receive_buffer:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            one.settimeout(20)
            one.connect(("127.0.0.1", port))
            one.sendall(sent)
        yield opened


def closed(connection: socket.socket) -> bool:
    """Whether the server has closed a connection, whatever it said before."""
    connection.settimeout(0.01)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def cut(connection: socket.socket) -> bool:
    """Whether the server has cut a connection; reads nothing of what it said."""
    try:
        connection.send(b" ")
    except OSError:
        return True
    return False


def head(method: str, path: str, length: int, key: str = KEY) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key}"]
    return "\r\n".join([*lines, "Content-Type: application/json", f"Content-Length: {length}", "", ""]).encode()


# ------------------------------------------------------------------------------------------------ connections


@pytest.mark.parametrize(
    "sent", [b"", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "], ids=["idle", "slow heads"]
)
def test_connections_that_say_nothing_shut_nobody_out(sent: bytes) -> None:
    with running_server(connections=64, connections_per_address=16) as running:
        with raw_connections(running, 100, sent):
            assert well(running)
            running.connect().close()


def test_connections_that_come_faster_than_any_client_s_are_closed_at_once() -> None:
    listener = bind("127.0.0.1", 0)
    with listener:
        Door(small_settings(proxies=("10.0.0.0/8",)), listener)
        admitted = [listener.admits("192.168.1.1") for _ in range(2000)]
        assert 512 <= sum(admitted) < 1000 and listener.admits("192.168.1.2")
        assert all(listener.admits("10.1.2.3") for _ in range(2000)), "a proxy brings everybody's connections"


def test_a_head_that_does_not_end_is_not_waited_for_however_it_drips() -> None:
    with running_server(head_seconds=1.0) as running, raw_connections(running, 2, b"GET /health HTTP/1.1\r\n") as slow:
        end = time.monotonic() + 20
        while not closed(slow[0]):
            assert time.monotonic() < end
            slow[0].sendall(b"X")
        wait_until(lambda: closed(slow[1]))


def test_the_second_head_of_a_connection_is_not_waited_for_either() -> None:
    with running_server(head_seconds=1.0) as running:
        with raw_connections(running, 1, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as (slow,):
            assert b" 200 " in slow.recv(1000)
            slow.sendall(b"GET /hea")
            wait_until(lambda: closed(slow))


def test_where_all_connections_work_a_new_one_is_told_so_in_the_client_s_words() -> None:
    with running_server(connections_per_address=3) as running:
        with raw_connections(running, 3, head("PUT", f"/v1/images/{'0' * 64}", 100)):
            wait_until(lambda: running.service.metrics.text().count(b"medals_answering 3.0"))
            with pytest.raises(ServiceError, match="too many connections"):
                connect(running.url, KEY, timeout=3.0)


def test_a_tls_handshake_that_does_not_begin_is_not_waited_for(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    with running_server(certificate=pem, certificate_key=pem, head_seconds=1.0, connections=64) as running:
        with raw_connections(running, 100) as idle:
            assert well(running)
            wait_until(lambda: all(map(closed, idle)))


def test_a_body_that_only_drips_is_given_up() -> None:
    with running_server(body_seconds=1.0) as running:
        with raw_connections(running, 1, head("PUT", f"/v1/images/{'0' * 64}", 8000)) as (slow,):
            end = time.monotonic() + 20
            while not closed(slow):
                assert time.monotonic() < end
                slow.sendall(b" ")


def test_an_answer_that_is_not_read_is_given_up() -> None:
    fake = FakeEngine({"Liver": NOISE}, patches=1)
    with running_server(fake, body_seconds=1.0, memory_bytes=1024 * MIB, chunk_bytes=4 * MIB) as running:
        with running.connect() as engine, engine.open_session(make_image(NOISE.shape), AFFINE) as session:
            run = f"/v1/sessions/{session.id}/runs/{'1' * 32}"
            call(running, "PUT", run, json={"prompts": ["liver"]})
            wait_until(lambda: call(running, "GET", run).json()["state"] == "done")
            with raw_connections(running, 2, head("GET", run + "/result", 0), receive_buffer=4096) as unread:
                wait_until(lambda: all(map(cut, unread)), 20)


def test_one_key_cannot_take_all_answers() -> None:
    with running_server(keys=KEYS, requests_at_once=3) as running:
        stalled = head("PUT", f"/v1/images/{'0' * 64}", 100, GREEDY)
        with raw_connections(running, 5, stalled) as connections:
            wait_until(lambda: sum(map(closed, connections)) == 2)
            assert call(running, "GET", "/v1/info", GREEDY).json()["kind"] == "rate_limited"
            assert call(running, "GET", "/v1/info").status_code == 200


# ------------------------------------------------------------------------------------------------ memory


def announce(running: Running, mebibytes: int, key: str) -> requests.Response:
    header = {"dtype": "|u1", "shape": [mebibytes, 1024, 1024]}
    return call(running, "PUT", f"/v1/images/{uuid.uuid4().hex * 2}", key, json=header)


def test_images_announced_and_never_sent_leave_the_others_their_memory() -> None:
    with running_server(FakeEngine(), keys=KEYS, memory_bytes=64 * MIB) as running:
        statuses = [announce(running, 6, GREEDY).status_code for _ in range(20)]
        assert 429 in statuses and 503 not in statuses
        with running.connect() as engine:
            engine.open_session(make_image(), AFFINE).segment(["liver"])
        running.let_time_pass(running.service.settings.lease_seconds)
        wait_until(lambda: running.service.store.used_bytes("greedy") == 0)


def test_asking_how_an_upload_is_does_not_keep_it() -> None:
    with running_server(FakeEngine(), memory_bytes=64 * MIB) as running:
        digest = announce(running, 6, KEY).json()["digest"]
        for _ in range(2):
            running.let_time_pass(0.6 * running.service.settings.lease_seconds)
            call(running, "GET", f"/v1/images/{digest}")
        wait_until(lambda: running.service.store.used_bytes() == 0)


def test_endless_small_images_of_one_key_are_refused() -> None:
    with running_server(FakeEngine(), keys=KEYS) as running:
        header = {"dtype": "|u1", "shape": [1, 1, 1]}
        with requests.Session() as http:
            http.headers["Authorization"] = f"Bearer {GREEDY}"
            statuses = [
                http.put(f"{running.url}/v1/images/{number:064x}", json=header).status_code for number in range(140)
            ]
        assert statuses[0] == 200 and statuses[-1] == 429
        assert announce(running, 1, KEY).status_code == 200


def test_queued_bodies_and_bodies_on_their_way_are_in_the_budget_and_its_metric() -> None:
    fake = FakeEngine({}, patches=10_000, seconds_per_patch=0.02)
    with (
        running_server(fake, keys=KEYS, memory_bytes=1024 * MIB, chunk_bytes=4 * MIB) as running,
        running.connect(GREEDY) as engine,
    ):
        session = engine.open_session(make_image(NOISE.shape), AFFINE)
        before = running.service.store.used_bytes()
        body = json.dumps({"masks": {"a": asdict(encode_mask(BoxMask.of(NOISE)))}}).encode()
        assert len(body) > 4 * MIB

        def start(prompts: bytes = body) -> int:
            path = f"/v1/sessions/{session.id}/runs/{uuid.uuid4().hex}"
            return call(
                running, "PUT", path, GREEDY, data=prompts, headers={"Content-Type": "application/json"}
            ).status_code

        assert start(b'{"prompts": ["liver"]}') == 200
        assert [start() for _ in range(3)] == [200] * 3
        wait_until(lambda: running.service.store.used_bytes() < before + 4 * len(body))  # the requests are answered
        assert running.service.store.used_bytes() >= before + 3 * len(body)
        with raw_connections(
            running, 1, head("PUT", f"/v1/sessions/{session.id}/runs/{'1' * 32}", len(body), GREEDY)
        ) as (one,):
            one.sendall(body[: 3 * MIB])
            wait_until(lambda: running.service.store.used_bytes() >= before + 3 * len(body) + 9 * MIB)
        wait_until(lambda: running.service.store.used_bytes() < before + 4 * len(body))


# ------------------------------------------------------------------------------------------------ work


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Running, str]]:
    with running_server(FakeEngine(), keys=KEYS, memory_bytes=512 * MIB) as running, running.connect() as engine:
        session = engine.open_session(make_image(), AFFINE)
        yield running, f"/v1/sessions/{session.id}"


@pytest.mark.parametrize("where", ["/estimate", "/runs/" + "1" * 32])
@pytest.mark.parametrize(
    "body", [{"prompts": ["a, " * 7000]}, {"prompts": ["x" * 100] * 200}, {"locked": {"y" * 20_000: {}}}]
)
def test_endless_prompts_are_refused(opened: tuple[Running, str], where: str, body: dict) -> None:
    running, session = opened
    mask = asdict(encode_mask(BoxMask.of(make_image() > 0)))
    body = {kind: dict.fromkeys(values, mask) if isinstance(values, dict) else values for kind, values in body.items()}
    answer = call(running, "POST" if where == "/estimate" else "PUT", session + where, json=body)
    assert answer.status_code == 413 and "characters" in answer.json()["cause"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"prompts": [' + b'"a",' * 60_000 + b'"a"]}', 413),
        (b'{"prompts": [' + b"1," * 20_000 + b"1]}", 422),
        (b'{"prompts": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 422),
        (b'{"prompts": ["a"], "more": ' + b'{"a":' * 9_000 + b"1" + b"}" * 9_000 + b"}", 422),
        (b"[" + b"0," * 30_000 + b"0]", 422),
        (b'{"prompts": ["a"]' + b" " * 30_000, 422),
    ],
)
def test_json_of_countless_values_is_refused_without_a_list_of_its_errors(
    opened: tuple[Running, str], body: bytes, status: int
) -> None:
    running, session = opened
    headers = {"Content-Type": "application/json"}
    answer = call(running, "PUT", session + "/runs/" + "1" * 32, data=body, headers=headers)
    assert answer.status_code == status and len(answer.content) < 1000


def test_bodies_without_masks_are_short(opened: tuple[Running, str]) -> None:
    running, _ = opened
    body = {"image": "0" * 64, "affine": AFFINE.tolist(), "modality": "x" * 10_000}
    assert call(running, "PUT", "/v1/sessions/" + "2" * 32, json=body).status_code == 413
    assert call(running, "PUT", f"/v1/images/{'0' * 64}", json={"dtype": "x" * 10_000}).status_code == 413
