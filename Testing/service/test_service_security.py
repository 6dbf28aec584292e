"""The threats of Documentation/threat-model.md, each with the test that shows its answer."""

# ruff: noqa: SIM117 - a server around a client reads better in two lines
from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import socket
import ssl
import stat
import threading
import uuid
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import requests
import trustme
from fake_engine import CRASH, FakeEngine
from service_support import AFFINE, KEY, Running, make_image, running_server, serve, wait_until

from MedalSLib.errors import ServiceError
from MedalSLib.service import protocol
from MedalSLib.service.client import connect
from MedalSLib.service.encoding import array_bytes, body_digest, canonical_image, digest_of, encode_chunk, encode_mask
from MedalSLib.service.keys import ApiKeys, add_key, hash_key, new_key, parse_keys, read_key_file, remove_keys
from MedalSLib.service.logs import AuditLog, JsonFormatter
from MedalSLib.service.settings import Settings, check_exposure
from MedalSLib.volume.mask import BoxMask

IMAGE = make_image()
ALICE, BOB = "key-of-alice", "key-of-bob"


@pytest.fixture(scope="module")
def server():
    with running_server(FakeEngine(), keys=(("alice", ALICE), ("bob", BOB), ("tester", KEY))) as running:
        yield running


def call(server: Running, method: str, path: str, key: str | None = KEY, **values) -> requests.Response:
    headers = values.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key is not None else {})
    return requests.request(method, server.url + path, headers=headers, timeout=20, **values)


def announce(server: Running, image: np.ndarray = IMAGE, **changes) -> requests.Response:
    header = {"dtype": image.dtype.str, "shape": image.shape} | changes
    return call(server, "PUT", f"/v1/images/{digest_of(canonical_image(image))}", json=header)


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("path", ["/v1/info", "/metrics", "/v1/sessions/" + "0" * 32, "/v1/nothing"])
@pytest.mark.parametrize("key", [None, "", "wrong-key-wrong-key"])
def test_nothing_is_told_without_a_right_key(path: str, key: str | None) -> None:
    with running_server() as running:
        answer = call(running, "GET", path, key)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["kind"] == "unauthorized" and answer.json()["remedy"]


def test_without_a_key_a_server_tells_only_that_it_is_one(server: Running) -> None:
    assert set(call(server, "GET", "/handshake", None).json()) == {
        "service",
        "protocol",
        "oldest_protocol",
        "software",
        "authentication",
    }
    assert call(server, "GET", "/health", None).json() == {"status": "ok", "audit": "ok", "keys": "ok"}
    assert call(server, "GET", "/ready", None).json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "needs an API key"), ("wrong-key-wrong-key", "does not know this API key"), ("two words", "no key has")],
)
def test_the_client_says_what_is_wrong_with_the_key(server: Running, key: str, words: str) -> None:
    with pytest.raises(ServiceError, match=words) as raised:
        server.connect(key)
    assert raised.value.remedy
    assert not key or key not in str(raised.value)


def test_guessing_keys_is_slowed_down_and_shuts_out_no_right_key() -> None:
    with running_server(failures_per_minute=5) as running:
        statuses = [call(running, "GET", "/v1/info", f"guess-number-{number}").status_code for number in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        assert int(call(running, "GET", "/v1/info", "guess").headers["Retry-After"]) >= 1
        assert call(running, "GET", "/v1/info").status_code == 200


def wrong_keys_from(running: Running, *addresses: str) -> list[int]:
    """Statuses of wrong keys whose senders say that they are other computers."""
    headers = [{"X-Forwarded-For": address} for address in addresses]
    return [call(running, "GET", "/v1/info", "wrong-key", headers=one).status_code for one in headers]


def test_only_proxies_that_were_named_are_believed_who_asks() -> None:
    with running_server(failures_per_minute=1) as running:
        assert wrong_keys_from(running, "10.0.0.1", "10.0.0.2") == [401, 429]
    with running_server(failures_per_minute=1, proxies=("127.0.0.0/8",)) as running:
        assert wrong_keys_from(running, "10.0.0.1", "10.0.0.2", "10.0.0.1", "6.6.6.6, 10.0.0.2") == [401, 401, 429, 429]
    with pytest.raises(ServiceError, match="not the address of a proxy"):
        check_exposure(Settings(proxies=("*",)))


def test_keys_are_hashed_at_rest_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = add_key(path, "radiology")
    assert key not in path.read_text() and hash_key(key).hex() in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ApiKeys(path).find(key).name == "radiology"
    assert len(key) > 40 and key != new_key()


@pytest.mark.slow
def test_keys_are_rotated_without_a_restart_and_sessions_survive_it(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    old = add_key(path, "radiology")
    other = add_key(path, "surgery")
    with running_server(FakeEngine(), keys=(), key_file=path) as running:
        session = running.connect(old).open_session(IMAGE, AFFINE)
        new = add_key(path, "radiology")
        wait_until(lambda: call(running, "GET", f"/v1/sessions/{session.id}", new).status_code == 200, 5.0)
        assert call(running, "GET", "/v1/info", old).status_code == 200
        assert remove_keys(path, "radiology", keep_newest=True) == 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        wait_until(lambda: call(running, "GET", "/v1/info", old).status_code == 401, 5.0)
        assert call(running, "GET", f"/v1/sessions/{session.id}", new).status_code == 200
        assert call(running, "GET", "/v1/info", other).status_code == 200


def empty(path: Path) -> None:
    path.write_text("")


def overwrite(path: Path) -> None:
    path.write_text("three words here\n")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [empty, Path.unlink, overwrite, replace_by_folder])
@pytest.mark.slow
def test_a_key_file_that_cannot_be_used_closes_the_door_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage
) -> None:
    path = tmp_path / "keys"
    key = add_key(path, "radiology")
    text = path.read_text()
    with running_server(FakeEngine(), keys=(), key_file=path) as running:
        assert call(running, "GET", "/v1/info", key).status_code == 200
        damage(path)
        wait_until(lambda: call(running, "GET", "/v1/info", key).status_code == 503, 5.0)
        answer = call(running, "GET", "/v1/info", key)
        assert "key file cannot be used" in answer.json()["cause"] and answer.headers["Retry-After"]
        assert call(running, "GET", "/health", None).json()["keys"] == "failing"
        assert "keys_unusable" in caplog.messages
        if path.is_dir():
            path.rmdir()
        path.write_text(text)
        wait_until(lambda: call(running, "GET", "/v1/info", key).status_code == 200, 5.0)
        assert call(running, "GET", "/health", None).json()["keys"] == "ok"


def test_a_revoked_key_s_session_and_run_end_too(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    leaked = add_key(path, "leaked")
    add_key(path, "other")
    fake = FakeEngine(patches=10_000, seconds_per_patch=0.02)
    with running_server(fake, keys=(), key_file=path) as running:
        session = running.connect(leaked).open_session(IMAGE, AFFINE)
        run = f"/v1/sessions/{session.id}/runs/{'1' * 32}"
        assert call(running, "PUT", run, leaked, json={"prompts": ["liver"]}).status_code == 200
        remove_keys(path, "leaked")
        wait_until(lambda: not running.service.store.session_count() and running.service.queue.running is None, 10.0)
        assert not running.service.store.used_bytes()


def test_a_hash_counts_in_any_case_and_is_never_a_key_itself(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key = new_key()
    digest = hash_key(key).hex()
    for line in (f"ward SHA256:{digest.upper()}", f"ward sha256:{digest}", f"\ufeffward sha256:{digest}\r"):
        path.write_text(line + "\n", encoding="utf-8")
        keys = ApiKeys(path)
        assert keys.find(key).name == "ward"
        assert keys.find(digest) is keys.find(digest.upper()) is keys.find(line.split()[1]) is None
    for damaged in (
        f"sha256:{digest[1:]}",
        f"sha256:{digest}0",
        f"sha256={digest}",
        f"sha512:{digest}",
        digest,
        "$2b$12$x",
    ):
        with pytest.raises(ServiceError, match=r"hash in line 1 .* damaged|shorter"):
            parse_keys(f"ward {damaged}", "keys")


def test_a_key_is_for_what_its_scopes_say_and_until_it_expires(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = {scope: add_key(path, scope, [scope], "2999-01-01") for scope in ("run", "metrics", "admin")}
    old = add_key(path, "old", expires="2020-01-01")
    paths = {"run": "/v1/info", "metrics": "/metrics", "admin": "/v1/keys"}
    with running_server(FakeEngine(), keys=(), key_file=path) as running:
        for scope, key in keys.items():
            statuses = {other: call(running, "GET", paths[other], key).status_code for other in paths}
            assert statuses == {other: 200 if other == scope else 403 for other in paths}
        assert call(running, "GET", "/v1/info", old).status_code == 401
        told = call(running, "GET", "/v1/keys", keys["admin"]).json()
        assert told["run"]["requests"] == 1 and told["run"]["last"].startswith("20") and "old" not in told
    for options in ({"scopes": ["root"]}, {"expires": "tomorrow"}):
        with pytest.raises(ServiceError):
            add_key(path, "new", **options)


def test_the_last_key_cannot_be_removed_by_mistake(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "only")
    with pytest.raises(ServiceError, match="last key"):
        remove_keys(tmp_path / "keys", "only")
    assert [record.name for record in read_key_file(tmp_path / "keys")] == ["only"]


@pytest.mark.parametrize("text", ["short", "name short", "a b c", "bad/name aaaaaaaaaaaaaaaaaaaa"])
def test_a_key_file_with_a_bad_line_is_refused(text: str) -> None:
    with pytest.raises(ServiceError, match="ine 1"):
        parse_keys(text, "keys")


def test_each_key_is_compared_whole_and_with_each_record(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("MedalSLib.service.keys.hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    keys = ApiKeys(plain=(("first", "first-key"), ("second", "second-key"), ("third", "third-key")))
    for key in ("first-key", "wrong-key"):
        compared.clear()
        keys.find(key)
        assert [pair[1] for pair in compared] == [hash_key(f"{name}-key") for name in ("first", "second", "third")]


# ------------------------------------------------------------------------------------------------ other users' data


def test_what_belongs_to_another_key_looks_as_if_it_never_was(server: Running) -> None:
    with server.connect(ALICE) as alice, alice.open_session(IMAGE, AFFINE) as session:
        digest = digest_of(canonical_image(IMAGE))
        for method, path, absent in [
            ("GET", "/v1/images/{0}", digest),
            ("GET", "/v1/sessions/{0}", session.id),
            ("PUT", "/v1/sessions/{0}/lease", session.id),
            ("GET", "/v1/sessions/{0}/runs/" + "1" * 32, session.id),
            ("DELETE", "/v1/sessions/{0}", session.id),
            ("DELETE", "/v1/images/{0}", digest),
        ]:
            theirs = call(server, method, path.format(absent), BOB)
            never = call(server, method, path.format("f" * len(absent)), BOB)
            assert theirs.status_code == never.status_code
            if theirs.content:
                assert {**theirs.json(), "request_id": ""} == {**never.json(), "request_id": ""}
        assert call(server, "GET", f"/v1/sessions/{session.id}", ALICE).status_code == 200
        assert call(server, "GET", f"/v1/images/{digest}", ALICE).json()["complete"]
        body = {"image": digest, "affine": AFFINE.tolist()}
        assert call(server, "PUT", f"/v1/sessions/{session.id}", BOB, json=body).json()["kind"] == "image_missing"


def test_two_keys_at_once_get_each_their_own_result(server: Running) -> None:
    images = {ALICE: make_image(seed=1), BOB: make_image(seed=2)}
    results = {}

    def work(key: str) -> None:
        with server.connect(key) as engine, engine.open_session(images[key], AFFINE) as session:
            results[key] = session.segment(["liver"])

    threads = [threading.Thread(target=work, args=(key,)) for key in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for key, image in images.items():
        expected = FakeEngine().open_session(image, AFFINE).segment(["liver"])
        assert np.array_equal(results[key].labelmap, expected.labelmap)


# ------------------------------------------------------------------------------------------------ exposure


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "server.example"])
def test_a_server_off_the_loopback_needs_a_key_and_tls_unless_forced(host: str, tmp_path: Path) -> None:
    pem = tmp_path / "x.pem"
    pem.touch()
    with pytest.raises(ServiceError, match="without an API key and without TLS") as raised:
        serve("--host", host, "--port", "0")
    assert "--insecure" in raised.value.remedy
    with pytest.raises(ServiceError, match="without TLS"):
        check_exposure(Settings(host=host, keys=(("a", "b"),)))
    with pytest.raises(ServiceError, match="without an API key"):
        check_exposure(Settings(host=host, certificate=pem, certificate_key=pem))
    check_exposure(Settings(host=host, keys=(("a", "b"),), certificate=pem, certificate_key=pem))
    check_exposure(Settings(host=host, insecure=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_a_server_on_the_loopback_starts_without(host: str) -> None:
    check_exposure(Settings(host=host))


def test_a_web_page_cannot_use_a_keyless_server_by_rebinding_a_name_or_from_another_origin() -> None:
    with running_server(keys=()) as running:
        assert call(running, "GET", "/v1/info", None).status_code == 200
        assert call(running, "GET", "/v1/info", None, headers={"Host": "evil.example"}).status_code == 400
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
        preflight = call(running, "OPTIONS", "/v1/sessions/" + "0" * 32, None, headers=asked)
        assert "access-control-allow-origin" not in preflight.headers


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name in ("127.0.0.1", "other.example"):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    return folder


def tls_server(certificates: Path, name: str):
    return running_server(certificate=certificates / f"{name}.pem", certificate_key=certificates / f"{name}.pem")


def test_tls_works_with_the_hospital_s_own_authority(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server(certificates, "127.0.0.1") as running:
        with running.connect(verify=str(certificates / "ca.pem")) as engine:
            engine.open_session(IMAGE, AFFINE).segment(["liver"])
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "ca.pem"))
        running.connect().close()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
        running.connect(verify=False).close()


def test_a_certificate_that_cannot_be_trusted_ends_the_connection_before_the_key_is_sent(certificates: Path) -> None:
    with tls_server(certificates, "127.0.0.1") as running:
        with pytest.raises(ServiceError, match=r"certificate of .* cannot be trusted") as raised:
            running.connect()
        assert "REQUESTS_CA_BUNDLE" in raised.value.remedy
        assert b"medals_requests_total{" not in running.service.metrics.text()
    with tls_server(certificates, "other.example") as running:
        with pytest.raises(ServiceError, match=r"certificate of .* cannot be trusted"):
            running.connect(verify=str(certificates / "ca.pem"))


@pytest.mark.slow
def test_plain_http_at_an_https_address_and_the_other_way_round_is_said(certificates: Path) -> None:
    with running_server() as running, pytest.raises(ServiceError, match="does not speak TLS"):
        connect(running.url.replace("http:", "https:"), KEY)
    with tls_server(certificates, "127.0.0.1") as running:
        connect(running.url.removeprefix("https://"), KEY, verify=str(certificates / "ca.pem")).close()
        with pytest.raises(ServiceError):
            connect(running.url.replace("https:", "http:"), KEY, timeout=0.5)


def test_a_damaged_certificate_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises(ServiceError, match="certificate cannot be used"):
        with running_server(certificate=tmp_path / "bad.pem", certificate_key=tmp_path / "bad.pem"):
            pass


# ------------------------------------------------------------------------------------------------ sizes


def test_an_image_over_the_limit_is_refused_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_server(image_bytes=1 << 20) as running:
        monkeypatch.setattr("MedalSLib.service.store.np.empty", lambda *_, **__: pytest.fail("memory was taken"))
        for shape in [(1024, 1024, 1), (65536, 65536, 65536), (1 << 40, 1, 1)]:
            answer = announce(running, shape=shape)
            assert answer.status_code in (413, 422), answer.json()
        for shape in [(0, 5, 5), (-1, 5, 5), (5, 5)]:
            assert announce(running, shape=shape).status_code == 422


@pytest.mark.parametrize("dtype", ["object", "O", "|O", "<U5", ">i2", "<f2", "V8", "<M8[ns]"])
def test_types_that_could_hold_more_than_numbers_are_refused(server: Running, dtype: str) -> None:
    assert announce(server, dtype=dtype).status_code == 422


def test_a_chunk_that_unpacks_to_more_than_announced_is_refused(server: Running) -> None:
    image = make_image(seed=21)
    digest = announce(server, image).json()["digest"]
    bomb = zlib.compress(bytes(1 << 26), 9)
    assert len(bomb) < 70_000
    answer = call(server, "PUT", f"/v1/images/{digest}/chunks/0", data=bomb[:4096])
    assert answer.json()["kind"] == "corrupt"
    for number, body in enumerate([b"", b"x" * 100, pickle.dumps(image)[:4000], zlib.compress(b"too short")]):
        answer = call(server, "PUT", f"/v1/images/{digest}/chunks/{number % 2}", data=body)
        assert answer.status_code == 422 and answer.json()["kind"] == "corrupt"
    assert call(server, "PUT", f"/v1/images/{digest}/chunks/9999", data=b"x").status_code == 422


def test_a_body_over_the_limit_is_refused_while_it_arrives(server: Running) -> None:
    digest = announce(server).json()["digest"]
    answer = call(server, "PUT", f"/v1/images/{digest}/chunks/0", data=bytes(10_000_000))
    assert answer.status_code == 413

    def endless():
        while True:
            yield bytes(65536)

    try:
        answer = call(server, "PUT", f"/v1/images/{digest}/chunks/0", data=endless())
        assert answer.status_code == 413
    except requests.ConnectionError:
        pass  # cut while it was sent: refused all the same
    assert call(server, "GET", "/v1/info").status_code == 200


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    with running_server(body_seconds=0.3) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = f"PUT /v1/images/{'0' * 64} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
            slow.sendall((head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{").encode())
            assert b" 408 " in slow.recv(1000)


def test_a_mask_that_unpacks_to_more_than_its_box_is_refused(server: Running) -> None:
    bomb = base64.b64encode(zlib.compress(bytes(1 << 24), 9)).decode()
    good = asdict(encode_mask(BoxMask.of(IMAGE > 0)))
    with server.connect() as engine, engine.open_session(IMAGE, AFFINE) as session:
        for number, change in enumerate(
            [
                {"data": bomb},
                {"data": "not base64 !"},
                {"data": ""},
                {"box": [[0, 99], [0, 20], [0, 16]]},
                {"box": [[5, 2], [0, 20], [0, 16]]},
                {"box": [[-1, 12], [0, 20], [0, 16]]},
                {"shape": [1 << 20] * 3},
                {"dtype": "<i8"},
            ]
        ):
            run = uuid.uuid4().hex
            path = f"/v1/sessions/{session.id}/runs/{run}"
            answer = call(server, "PUT", path, json={"masks": {"Liver": good | change}})
            if answer.status_code == 200:  # what only decoding shows ends the run
                wait_until(lambda path=path: call(server, "GET", path).json()["state"] == "failed")
                assert call(server, "GET", path + "/result").status_code == 409
            else:
                assert answer.status_code == 422, (number, answer.json())


def test_too_many_masks_prompts_and_runs_are_refused() -> None:
    fake = FakeEngine(patches=1000, seconds_per_patch=0.02)
    with running_server(fake, masks=3, prompts=3, runs_per_key=2) as running, running.connect() as engine:
        session = engine.open_session(IMAGE, AFFINE)
        mask = asdict(encode_mask(BoxMask.of(IMAGE > 0)))

        def start(body: dict) -> requests.Response:
            return call(running, "PUT", f"/v1/sessions/{session.id}/runs/{uuid.uuid4().hex}", json=body)

        for group in ("masks", "locked", "painted"):
            assert start({group: {str(number): mask for number in range(4)}}).status_code == 413
        assert start({"prompts": ["a"] * 4}).status_code == 413
        assert [start({"prompts": ["a"]}).status_code for _ in range(3)] == [200, 200, 429]
        assert int(start({}).headers["Retry-After"]) >= 1


def test_requests_over_the_rate_of_a_key_wait_and_other_keys_do_not() -> None:
    keys = (("alice", ALICE), ("bob", BOB))
    with running_server(keys=keys, requests_per_second=0.01, request_burst=3) as running:
        statuses = [call(running, "GET", "/v1/info", ALICE).status_code for _ in range(5)]
        assert statuses == [200] * 3 + [429] * 2
        assert int(call(running, "GET", "/v1/info", ALICE).headers["Retry-After"]) > 5
        assert call(running, "GET", "/v1/info", BOB).status_code == 200


def test_a_wrong_digest_of_a_body_is_refused(server: Running) -> None:
    headers = {protocol.DIGEST_HEADER: body_digest(b"something else"), "Content-Type": "application/json"}
    answer = call(
        server, "PUT", f"/v1/images/{'0' * 64}", data=b'{"dtype": "<i2", "shape": [2, 2, 2]}', headers=headers
    )
    assert answer.json()["kind"] == "corrupt"


def test_an_image_that_is_not_what_its_address_says_is_never_used(server: Running) -> None:
    image = canonical_image(make_image(seed=31))
    digest = "ab" * 32
    chunks = call(server, "PUT", f"/v1/images/{digest}", json={"dtype": image.dtype.str, "shape": image.shape}).json()
    for index in range(chunks["chunks"]):
        piece = array_bytes(image)[index * chunks["chunk_bytes"] : (index + 1) * chunks["chunk_bytes"]]
        answer = call(server, "PUT", f"/v1/images/{digest}/chunks/{index}", data=encode_chunk(piece, 2))
    assert answer.json()["kind"] == "corrupt"
    body = {"image": digest, "affine": AFFINE.tolist()}
    assert call(server, "PUT", f"/v1/sessions/{'c' * 32}", json=body).json()["kind"] == "image_missing"


# ------------------------------------------------------------------------------------------------ paths and pickles


@pytest.mark.parametrize("name", ["../../etc/passwd", "%2e%2e%2fetc", "C:\\x", "a" * 5000, "0" * 31 + "G", "\u0000"])
def test_identifiers_from_a_client_are_never_paths(server: Running, name: str) -> None:
    for path in (f"/v1/images/{name}", f"/v1/sessions/{name}", f"/v1/sessions/{'0' * 32}/runs/{name}"):
        assert call(server, "GET", path).status_code in (400, 404, 422)


def test_the_service_never_unpickles_nor_opens_what_a_client_names() -> None:
    import MedalSLib.service as package

    for path in Path(package.__file__).parent.glob("*.py"):
        text = path.read_text()
        assert "pickle" not in text and "np.load" not in text and "eval(" not in text, path


# ------------------------------------------------------------------------------------------------ logs


def test_logs_and_audit_tell_who_ran_what_and_nothing_of_the_patient(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"
    secret = "Jane Roe 1971"
    caplog.set_level(logging.DEBUG, "medals")
    with running_server(FakeEngine(), audit_file=audit) as running, running.connect() as engine:
        session = engine.open_session(IMAGE, AFFINE, "CT")
        session.segment(["liver"], {"Spleen": IMAGE > 0})
        with pytest.raises(ServiceError):
            session.segment([secret, CRASH])
        call(running, "GET", f"/v1/nothing/{secret}?name={secret}")
        call(running, "PUT", f"/v1/sessions/{'0' * 32}", json={"image": secret})
        engine.close()
        wait_until(lambda: "session_closed" in audit.read_text())
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name.startswith("medals")]
    entries = [json.loads(line) for line in audit.read_text().splitlines()]
    everything = "\n".join([*lines, audit.read_text()])
    for word in (secret, "Jane", "John Doe", KEY, "liver"):
        assert word not in everything
    runs = [entry for entry in entries if entry["what"] == "run_ended"]
    assert [entry["outcome"] for entry in runs] == ["done", "failed"]
    assert runs[0]["who"] == "tester" and runs[0]["structures"] == ["Liver", "Spleen"] and runs[0]["time"]
    assert {entry["what"] for entry in entries} == {"session_opened", "run_ended", "session_closed"}
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    requests_logged = [json.loads(line) for line in lines if '"event": "request"' in line]
    assert requests_logged and all(entry["request_id"] and "ms" in entry for entry in requests_logged)


def test_an_audit_log_that_everybody_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.touch()
    path.chmod(0o664)
    AuditLog(path).write("me", "run_ended", {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and "run_ended" in path.read_text()


def test_an_answer_carries_the_request_s_id_and_bad_ids_are_replaced(server: Running) -> None:
    assert call(server, "GET", "/health", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    odd = call(server, "GET", "/nowhere", headers={"X-Request-ID": 'x" , "admin": "y'})
    assert odd.headers["X-Request-ID"].isalnum() and odd.json()["request_id"] == odd.headers["X-Request-ID"]


def test_metrics_hold_counts_and_no_identifiers(server: Running) -> None:
    with server.connect(ALICE) as engine, engine.open_session(IMAGE, AFFINE) as session:
        session.segment(["liver"])
        text = call(server, "GET", "/metrics").text
    assert 'medals_runs_total{outcome="done"}' in text and "medals_memory_bytes " in text
    assert session.id not in text and "alice" not in text


def test_the_key_is_not_sent_to_where_a_redirect_leads() -> None:
    seen: list[str] = []

    def serve_redirect(listener: socket.socket) -> None:
        for _ in range(2):
            client, _ = listener.accept()
            seen.append(client.recv(4000).decode())
            client.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n")
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve_redirect, args=(listener,), daemon=True).start()
        with pytest.raises(ServiceError, match=r"sends on to http://evil.example/"):
            connect(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY)
    assert seen and not any(KEY in text for text in seen)


def test_netrc_does_not_replace_the_key(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.connect().close()


def test_tls_versions_that_are_broken_are_not_spoken(certificates: Path) -> None:
    with tls_server(certificates, "127.0.0.1") as running:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_the_key_is_not_shown_by_the_client_s_own_objects(server: Running) -> None:
    assert KEY not in repr(server.connect().transport.options) and os.environ.get("MEDALS_API_KEY") is None
