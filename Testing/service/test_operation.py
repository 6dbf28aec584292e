"""The examples of Documentation/operating.md: parsed, and as far as it can be done here, run."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from service_support import ROOT, running_server, small_settings

from MedalSLib.cli import build_parser
from MedalSLib.errors import ServiceError
from MedalSLib.service.app import create_app
from MedalSLib.service.keys import add_key
from MedalSLib.service.serving import make_server

pytestmark = pytest.mark.slow

yaml = pytest.importorskip("yaml")

FOLDER = ROOT / "Resources" / "Operation"
UNIT = FOLDER / "medals.service"
DOCKERFILE = (ROOT / "Resources" / "Container" / "Dockerfile").read_text()
USER = re.search(r"--uid (\d+)", DOCKERFILE)[1]


def compose() -> dict:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["medals"]


def kuberay() -> dict[str, dict]:
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())}


def test_the_systemd_unit_starts_the_server_privately_and_is_valid(tmp_path: Path) -> None:
    text = UNIT.read_text()
    command = re.search(r"ExecStart=(.*?[^\\])\n", text, re.DOTALL)[1].replace("\\\n", "").split()
    parsed = build_parser().parse_args(command[1:])
    assert parsed.api_key_file and parsed.tls_certificate and parsed.audit_log and not parsed.insecure
    assert {"User=medals", "Restart=always", "Type=notify", "NoNewPrivileges=true"} <= set(text.splitlines())
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd")
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(command[0], "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line and "man" not in line.lower()]
    assert not complaints, done.stderr


def test_the_container_runs_as_its_user_without_rights_and_sees_a_replaced_key_file() -> None:
    service = compose()
    assert service["user"] == f"{USER}:{USER}" and service["read_only"] and service["cap_drop"] == ["ALL"]
    parsed = build_parser().parse_args(service["command"])
    mounts = [mount.split(":") for mount in service["volumes"]]
    assert ["./secrets", "/run/secrets", "ro"] in mounts, "a file that is mounted alone is not seen when it is replaced"
    for path in (parsed.api_key_file, parsed.tls_certificate, parsed.tls_key):
        assert str(path.parent) == "/run/secrets"
    assert [mount[1] for mount in mounts if len(mount) == 2] == [str(parsed.audit_log.parent)]
    assert service["ports"] == [f"{parsed.port}:{parsed.port}"]
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert f" AS {service['build']['target']}\n" in DOCKERFILE


def test_the_kubernetes_example_runs_as_the_container_s_user_with_readable_keys_and_closed_ports() -> None:
    objects = kuberay()
    service = objects["RayService"]["spec"]
    serve = yaml.safe_load(service["serveConfigV2"])
    (application,) = serve["applications"]
    assert application["import_path"] == "MedalSLib.service.scaleout:application"
    cluster = service["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert str(pod["securityContext"]["runAsUser"]) == USER == str(pod["securityContext"]["fsGroup"])
        assert pod["volumes"][0]["secret"]["secretName"] == objects["Secret"]["metadata"]["name"]
        (mount,) = pod["containers"][0]["volumeMounts"]
        (name,) = objects["Secret"]["stringData"]
        assert application["args"]["api_key_file"] == f"{mount['mountPath']}/{name}"
        assert "subPath" not in mount, "a key that is taken away would not be noticed"
    ports = [port["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for port in rule.get("ports", [])]
    assert ports == [serve["http_options"]["port"]]


def test_the_application_that_kuberay_imports_is_one_and_is_never_open_to_everybody(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the scale-out extra")
    from ray.serve import Application

    from MedalSLib.service.scaleout import application

    add_key(tmp_path / "keys", "me")
    arguments = {"model": "starter", "device": "cpu", "api_key_file": str(tmp_path / "keys"), "behind_tls": "true"}
    for missing in ("api_key_file", "behind_tls"):
        with pytest.raises(ServiceError, match="let everybody in"):
            application({name: value for name, value in arguments.items() if name != missing})
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        assert isinstance(application(arguments), Application)
    finally:
        ray.shutdown()


def test_dashboard_and_alerts_ask_for_metrics_that_the_server_has() -> None:
    with running_server(FakeEngine()) as running:
        running.connect().close()
        known = set(re.findall(r"^# TYPE (\w+)", running.service.metrics.text().decode(), re.MULTILINE))
    known |= {f"{name}_bucket" for name in known} | {"up"}
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules]
    page = (ROOT / "Documentation" / "operating.md").read_text()
    for expression in asked:
        names = set(re.findall(r"\b(?:medals|process)_\w+\b|\bup\b", expression))
        assert names and names <= known, expression
    for rule in rules:
        assert rule["alert"] in page, "what to do about it is not told"
    own = {name for name in known if name.startswith("medals_") and not name.endswith(("_created", "_bucket"))}
    assert {name for name in own if name not in " ".join(asked)} <= {"medals_run_seconds"}


def test_systemd_is_told_that_the_server_is_there_and_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with running_server(FakeEngine()) as running:
            said = {channel.recv(100) for _ in range(2)}
            assert said == {b"READY=1", b"WATCHDOG=1"}
            monkeypatch.setattr(type(running.service), "stuck", True)
            channel.settimeout(2.5)
            with pytest.raises(TimeoutError):
                for _ in range(3):
                    channel.recv(100)


def test_a_key_in_a_folder_that_is_mounted_is_replaced_without_a_restart(tmp_path: Path) -> None:
    """As Kubernetes does it: the folder's link is turned to another folder."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
    old, new = (add_key(tmp_path / version / "keys", "me") for version in ("1", "2"))
    (tmp_path / "now").symlink_to("1")
    settings = small_settings(keys=(), key_file=tmp_path / "now" / "keys")
    app = create_app(FakeEngine, settings)
    _, listener = make_server(app, settings)
    listener.close()
    keys = app.state.server.keys
    assert keys.find(old) and not keys.find(new)
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").replace(tmp_path / "now")
    keys.reload()
    assert keys.find(new) and not keys.find(old)
