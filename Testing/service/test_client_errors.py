"""What a user reads when a server cannot be used: one sentence for each cause, and what to do about it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from service_support import KEY, running_server

from MedalSLib.errors import ServiceError
from MedalSLib.service import protocol
from MedalSLib.service.addresses import parse_address
from MedalSLib.service.client import connect
from MedalSLib.service.event_stream import RunEvent, parse_events


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server of something else: it gives every connection the same bytes."""

    def work(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(65536)
                client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=work, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def page(status: str, body: bytes, kind: str = "text/html", extra: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode() + body


HTML = b"<html><head><title>Hospital\n proxy: blocked</title></head></html>"
OURS = b'{"service": "medals", "protocol": %d, "oldest_protocol": %d, "software": "9", "authentication": "none"}'


@pytest.mark.parametrize(
    ("answer", "cause", "remedy"),
    [
        (page("200 OK", HTML), "A web page (“Hospital proxy: blocked”) answered", "NO_PROXY"),
        (page("403 Forbidden", HTML), "A web page (“Hospital proxy: blocked”) answered", "NO_PROXY"),
        (page("407 Proxy Authentication Required", HTML), "The proxy wants a password", "HTTPS_PROXY"),
        (page("502 Bad Gateway", HTML), "A gateway in front of", "administrator"),
        (page("504 Gateway Timeout", b""), "answers 504", "administrator"),
        (page("413 Too Large", b"<html>"), "takes only smaller requests", "client_max_body_size"),
        (page("302 Found", b"", extra="Location: https://login.example/\r\n"), "sends on to", "Log in"),
        (page("200 OK", b"{}", "application/json"), "is not a Medal S server", "host and port"),
        (page("404 Not Found", b"no", "text/plain"), "is not a Medal S server (status 404)", "host and port"),
        (page("200 OK", b'{"service": "medals"}', "application/json"), "does not say which version", "updated"),
        (page("200 OK", OURS % (9, 7), "application/json"), "at least version 7: update Medal S on this computer", ""),
        (page("200 OK", OURS % (0, 0), "application/json"), "the administrator to update the server", ""),
        (page("400 Bad Request", b'{"kind": [], "cause": "Odd."}', "application/json"), "Odd.", ""),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "The connection to", "Check the network"),
        (b"", "it was cut", "Check the network"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
)
def test_whatever_else_answers_is_named(answer: bytes, cause: str, remedy: str) -> None:
    with answering(answer) as url, pytest.raises(ServiceError) as raised:
        connect(url, KEY, timeout=0.2)
    if "administrator to update" in cause:
        cause = "ask the server's administrator to update the server"
    assert cause in raised.value.cause and remedy in raised.value.remedy


def test_a_closed_port_an_unknown_name_and_a_silent_host_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServiceError, match=r"stopped answering|failed"):
            monkeypatch.setattr("MedalSLib.service.client.HANDSHAKE_SECONDS", 0.3)
            connect(f"http://127.0.0.1:{port}", KEY, timeout=0.3)
    with pytest.raises(ServiceError, match="Nothing listens at") as raised:
        connect(f"http://127.0.0.1:{port}", KEY, timeout=0.2)
    assert "medals serve" in raised.value.remedy

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(ServiceError, match=r"No computer is called nowhere\.invalid") as raised:
            connect("http://nowhere.invalid:1", KEY, timeout=0.2)
    assert "spelling" in raised.value.remedy


def test_a_proxy_that_cannot_be_reached_is_named_and_no_proxy_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_server() as running:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        with pytest.raises(ServiceError, match="proxy") as raised:
            connect(running.url, KEY, timeout=0.2)
        assert "NO_PROXY" in raised.value.remedy
        with pytest.raises(ServiceError, match="address of the proxy cannot be used"):
            connect(running.url, KEY, proxies={"http": "http://"})
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        connect(running.url, KEY).close()


def test_a_client_of_another_version_is_told_which_side_to_update(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    with running_server() as running:
        headers = {"Authorization": f"Bearer {KEY}"}
        for version, side in (("0", "update Medal S on this computer"), ("2", "administrator to update the server")):
            answer = requests.get(
                f"{running.url}/v1/info", headers=headers | {protocol.PROTOCOL_HEADER: version}, timeout=10
            )
            assert answer.status_code == 426 and side in answer.json()["cause"]
        assert requests.get(f"{running.url}/v1/info", headers=headers, timeout=10).status_code == 200


def test_the_two_sides_of_a_mismatch() -> None:
    assert protocol.version_problem(3, 2, client=2, client_oldest=1) == ""
    assert "this computer" in protocol.version_problem(3, 2, client=1, client_oldest=1)
    assert "update the server" in protocol.version_problem(1, 1, client=3, client_oldest=2)


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("https://gpu.example:8765", "https://gpu.example:8765"),
        (" HTTPS://GPU.example:8765/ ", "https://gpu.example:8765"),
        ("gpu.example:8765", "https://gpu.example:8765"),
        ("gpu.example", "https://gpu.example:8765"),
        ("https://gpu.example", "https://gpu.example"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("localhost", "http://localhost:8765"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("http:/gpu.example:1", "http://gpu.example:1"),
        ("http//gpu.example:1", "http://gpu.example:1"),
        ("https://gpu.example/medals/", "https://gpu.example/medals"),
        ("https://gpu.example/medals/v1/info", "https://gpu.example/medals"),
        ("http://localhost:8765/docs", "http://localhost:8765"),
        ("<http://localhost:8765/handshake>", "http://localhost:8765"),
        ("https://gpu.example:8765/?x=1#y", "https://gpu.example:8765"),
    ],
)
def test_addresses_are_forgiven(typed: str, url: str) -> None:
    assert parse_address(typed).url == url


@pytest.mark.parametrize(
    "typed", ["", "   ", "ftp://x", "http://", "host:port", "a b c", "http://u:p@host", "host:99999"]
)
def test_what_is_no_address_is_said(typed: str) -> None:
    with pytest.raises(ServiceError, match="is not the address of a server") as raised:
        parse_address(typed)
    assert raised.value.remedy


def test_host_and_port_without_a_scheme_connect() -> None:
    with running_server() as running:
        connect(running.url.removeprefix("http://"), KEY).close()


def test_a_key_is_not_sent_in_the_clear_to_another_machine_unless_http_was_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running_server() as running:
        real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setenv("no_proxy", "*")
        address = f"gpu.example:{running.url.rpartition(':')[2]}"
        with pytest.raises(ServiceError, match="does not encrypt, and an API key would be sent") as raised:
            connect(address, KEY, timeout=1.0)
        assert f"http://{address}" in raised.value.remedy
        assert b'route="/v1/info"' not in running.service.metrics.text()
        connect(f"http://{address}", KEY).close()


def test_events_are_read_whole_however_they_are_cut() -> None:
    text = (
        ': medals\n\nid: 1\nevent: progress\ndata: {"stage": "ä"}\n\nid: 2\nevent: done\ndata: {}\n\nid: 3\nev'.encode()
    )
    for size in (1, 2, 3, 7, 1000):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(parse_events(pieces)) == [
            None,
            RunEvent(1, "progress", {"stage": "ä"}),
            RunEvent(2, "done", {}),
        ]
    with pytest.raises(ValueError, match="not an event"):
        list(parse_events([b"id: 1\nevent: nonsense\ndata: {}\n\n"]))
