"""Mutated requests from the OpenAPI description against a real server: no crash, no hang, no 500, no growth.

The default run sends a few hundred; `MEDALS_FUZZ_REQUESTS=10000 pytest Testing/service/test_service_fuzz.py` sends as
many as the release asks for.
"""

from __future__ import annotations

import os
from collections import Counter

import psutil
import pytest
import requests
import schemathesis
from fake_engine import FakeEngine
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from service_support import AFFINE, KEY, make_image, running_server

REQUESTS = int(os.environ.get("MEDALS_FUZZ_REQUESTS", "400"))
SESSION, RUN = "5" * 32, "6" * 32


@pytest.fixture(scope="module")
def server():
    limits = {"requests_per_second": 1e6, "request_burst": 10**6, "failures_per_minute": 10**6}
    with running_server(FakeEngine(patches=2), body_seconds=5.0, **limits) as running:
        yield running


def known_names(image_digest: str) -> st.SearchStrategy[dict[str, str]]:
    """Identifiers that exist, so that mutated requests get behind the first look-up."""
    return st.sampled_from([{}, {"digest": image_digest, "session": SESSION, "run": RUN, "index": "0"}])


@pytest.mark.slow
def test_mutated_requests_are_answered_without_a_crash_a_hang_a_500_or_growth(server) -> None:
    engine = server.connect()
    session = engine.open_session(make_image(), AFFINE)
    digest = session._upload.digest
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 17
    each = max(4, REQUESTS // len(operations))
    headers = {"Authorization": f"Bearer {KEY}"}
    statuses: Counter[int] = Counter()
    process = psutil.Process()
    http = requests.Session()

    def attack(operation, count: int) -> None:
        strategy = operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @_given(strategy, known_names(digest))
        def send(case, names: dict[str, str]) -> None:
            for name in names.keys() & (case.path_parameters or {}).keys():
                case.path_parameters[name] = names[name]
            if "/sessions/" in case.path and case.method == "PUT" and isinstance(case.body, dict) and names:
                case.body = {**case.body, "image": digest, "affine": AFFINE.tolist()}
            answer = case.call(session=http, headers=headers, timeout=20)
            statuses[answer.status_code] += 1
            case.validate_response(answer, checks=[not_a_server_error], excluded_checks=[])

        send()

    for operation in operations:
        attack(operation, each // 4)
    before = process.memory_info().rss
    for operation in operations:
        attack(operation, each - each // 4)
    assert sum(statuses.values()) >= REQUESTS * 0.5
    assert not {status for status in statuses if status >= 500 and status not in (503, 507)}, statuses
    assert len(statuses) >= 4, f"the requests do not get behind the door: {statuses}"
    assert process.memory_info().rss - before < 256 << 20, "memory grows with refused requests"
    with engine.open_session(make_image(seed=5), AFFINE) as after:
        assert after.segment(["liver"]).masks["liver"].any()
    assert b'status="500"' not in server.service.metrics.text()


def _given(*strategies):
    from hypothesis import given

    return given(*strategies)


RAW = [
    b"\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PUT /v1/images/x HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"PUT /v1/images/x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"PUT /v1/images/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    bytes(range(256)) * 10,
]


@pytest.mark.parametrize("raw", RAW, ids=range(len(RAW)))
def test_bytes_that_are_no_request_do_no_harm(server, raw: bytes) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass  # cut by the server: refused
    assert requests.get(f"{server.url}/health", timeout=10).status_code == 200


DEEP = b'{"prompts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"image": "\\ud800"}',
        b"\xff\xfe",
        b"NaN",
        b"null",
        b"[]",
        b'{"image": "' + b"a" * 64 + b'", "affine": [[NaN, 0, 0, 0], [0, 1e999, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}',
        b'{"dtype": "|u1", "shape": [1e400, 1, 1]}',
        b'{"options": {"seed": 99999999999999999999999999999999999999}}',
        b'{"roi": [[0, 99999999999999999999999999], [0, 1], [0, 1]]}',
    ],
    ids=range(10),
)
def test_json_made_to_break_parsers_is_refused(server, body: bytes) -> None:
    engine = server.connect()
    session = engine.open_session(make_image(), AFFINE)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    for path in (f"/v1/images/{'0' * 64}", f"/v1/sessions/{'1' * 32}", f"/v1/sessions/{session.id}/runs/{'2' * 32}"):
        answer = requests.put(server.url + path, data=body, headers=headers, timeout=20)
        assert answer.status_code in (200, 400, 409, 413, 422), answer.text
        assert answer.json()
