"""`medals serve` as a process, the container's health check and the challenge's entry point, without Docker."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from service_support import ROOT, running_server, serve

from MedalSLib.cli import main
from MedalSLib.errors import ResourceError, ServiceError
from MedalSLib.service.client import connect
from MedalSLib.service.healthcheck import healthy
from MedalSLib.service.keys import add_key

SERVE = """
import sys
sys.path[:0] = {paths!r}
from fake_engine import make
import MedalSLib.engine
from MedalSLib.cli import main
MedalSLib.engine.open_engine = lambda model, device, **options: make("fake", "cpu")
sys.exit(main(["serve", "--port", "0", "--api-key-file", {keys!r}]))
"""


def test_serve_says_where_it_listens_logs_json_and_stops_when_asked(tmp_path: Path) -> None:
    import json

    key = add_key(tmp_path / "keys", "me")
    program = SERVE.format(paths=[str(ROOT), str(ROOT / "Testing" / "support")], keys=str(tmp_path / "keys"))
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = re.compile(r"Medal S listens on (\S+); press Ctrl\+C to stop\.\n")
            found = next(match for line in process.stderr if (match := said.fullmatch(line)))
            with connect(found[1], key) as engine:
                assert engine.info().model == "fake"
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()
            process.wait(20)
        finally:
            process.kill()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line["event"] == "request" and line["route"] == "/v1/info" for line in lines)
    assert key not in log


def test_keys_are_listed_with_what_they_are_for_and_their_use_is_asked_of_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    assert main(["keys", "add", str(path), "ward", "--scope", "run", "--expires", "2999-12-31"]) == 0
    ward = capsys.readouterr().out.strip()
    (tmp_path / "admin").write_text(add_key(path, "boss", ["admin"]))
    assert main(["keys", "list", str(path)]) == 0
    said = capsys.readouterr().out
    assert "ward" in said and "2999-12-31" in said and "admin" in said and ward not in said
    with running_server(keys=(), key_file=path) as running:
        connect(running.url, ward).close()
        assert main(["keys", "used", running.url, "--api-key-file", str(tmp_path / "admin")]) == 0
        used = capsys.readouterr().out.splitlines()
        assert used[0].startswith("boss") and used[1].startswith("ward") and "last 20" in used[1]
        (tmp_path / "ward").write_text(ward)
        assert main(["keys", "used", running.url, "--api-key-file", str(tmp_path / "ward")]) == 8
        assert "not for that" in capsys.readouterr().err


def test_serve_refuses_what_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="key file"):
        serve("--port", "0", "--api-key-file", str(tmp_path / "missing"))
    with pytest.raises(ServiceError, match="does not exist"):
        serve("--port", "0", "--tls-certificate", str(tmp_path / "a"), "--tls-key", str(tmp_path / "b"))
    with pytest.raises(ServiceError, match="only one of them"):
        serve("--port", "0", "--tls-certificate", str(tmp_path / "a"))
    for port in ("99999", "-1"):
        with pytest.raises(ServiceError, match="There is no port"):
            serve("--port", port)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServiceError, match="cannot listen"):
        serve("--port", str(taken.getsockname()[1]))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MedalSLib.service.app", None)
    with pytest.raises(ResourceError, match=r"medals\[server\]"):
        serve("--port", "0")


def test_the_health_check_sees_whether_the_server_is_well() -> None:
    with running_server() as running:
        port = int(running.url.rpartition(":")[2])
        assert healthy(port)
    assert not healthy(port)


def test_the_container_runs_as_nobody_special_with_a_health_check_and_no_weights_in_it() -> None:
    text = (ROOT / "Resources" / "Container" / "Dockerfile").read_text()
    server = text.partition(" AS server")[2]
    assert "\nUSER medals\n" in server and "\nHEALTHCHECK --" in server and "\nVOLUME /models\n" in server
    assert "--insecure" not in text and "curl" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="a container's shell script")
def test_the_challenge_s_entry_point_runs_the_predict_command(tmp_path: Path) -> None:
    script = ROOT / "Resources" / "Container" / "predict.sh"
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    (tmp_path / "inputs").mkdir()
    for arguments in ([str(tmp_path / "inputs"), str(tmp_path / "out")], [str(tmp_path / "missing")]):
        done = subprocess.run(
            ["sh", str(script), *arguments], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr and str(tmp_path) in done.stderr
    helped = subprocess.run(
        ["sh", str(script), "a", "b", "--help"], capture_output=True, text=True, env=environment, check=False
    )
    assert helped.returncode == 0 and "medals predict" in helped.stdout
