"""The README's test command installs what the tests draw with where it may, and names it where it may not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def quickstart() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart", ROOT / ".ci" / "quickstart.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """A Linux without libEGL; records the commands that are run on it."""

    def __init__(
        self, quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch, programs: set[str], user: int, sudo: int
    ) -> None:
        self.commands: list[list[str]] = []
        self.sudo = sudo
        self.codes: dict[str, int] = {}  # of `python -m` these
        monkeypatch.setattr(quickstart.shutil, "which", lambda name, path=None: name if name in programs else None)
        monkeypatch.setattr(quickstart.os, "geteuid", lambda: user, raising=False)
        monkeypatch.setattr(quickstart.subprocess, "run", self.run)
        monkeypatch.setattr(quickstart.sysconfig, "get_platform", lambda: "linux-x86_64")

    def run(self, command: list[str], **_options: object) -> SimpleNamespace:
        self.commands.append(command)
        code = self.sudo if command[-1] == "true" else self.codes.get(command[2], 0) if command[1:2] == ["-m"] else 0
        return SimpleNamespace(returncode=code, stdout="", stderr="")


@pytest.mark.parametrize(
    ("programs", "user", "sudo", "beginning"),
    [
        ({"apt-get"}, 0, 1, ["env"]),
        ({"apt-get", "sudo"}, 1000, 0, ["sudo", "-n", "env"]),
        ({"apt-get", "sudo"}, 1000, 1, None),
        ({"apt-get"}, 1000, 1, None),
        (set(), 0, 1, None),
    ],
    ids=["root", "sudo", "sudo with a password", "no sudo", "no Debian"],
)
def test_libraries_are_installed_or_named(
    quickstart: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    programs: set[str],
    user: int,
    sudo: int,
    beginning: list[str] | None,
) -> None:
    machine = Machine(quickstart, monkeypatch, programs | {"ldconfig"}, user, sudo)
    assert quickstart.test(Path("python"), ["Testing"]) == 0
    installed = [command for command in machine.commands if "install" in command]
    said = capsys.readouterr().out
    if beginning is None:
        assert installed == []
        assert all(name in said for name in quickstart.TEST_LIBRARIES)
    else:
        assert installed[0][: len(beginning)] == beginning
        assert set(quickstart.TEST_LIBRARIES) <= set(installed[0])
        assert "sudo apt-get" not in said
    assert machine.commands[-1][:3] == ["python", "-m", "pytest"]


@pytest.fixture
def machine(quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(quickstart, monkeypatch, {"ldconfig", "apt-get"}, 0, 1)


def run_by_python(machine: Machine) -> list[str]:
    return [command[2] for command in machine.commands if command[1:2] == ["-m"]]


def test_the_checks_come_before_all_the_tests_and_the_summary_is_last(quickstart: ModuleType, machine: Machine) -> None:
    assert quickstart.test(Path("python"), []) == 0
    assert run_by_python(machine) == ["ruff", "ruff", "mypy", "pytest"]


@pytest.mark.parametrize("failing", ["ruff", "mypy", "pytest"])
def test_what_a_check_finds_stops_nothing_and_is_a_failure(
    quickstart: ModuleType, machine: Machine, failing: str
) -> None:
    machine.codes[failing] = 3
    assert quickstart.test(Path("python"), []) == 3
    assert run_by_python(machine) == ["ruff", "ruff", "mypy", "pytest"]


def test_chosen_tests_run_alone_and_on_every_core(
    quickstart: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "workers", lambda: 2)
    assert quickstart.test(Path("python"), ["-m", "not slow"]) == 0
    assert run_by_python(machine) == ["pytest"]
    command = machine.commands[-1]
    assert command[command.index("-n") + 1] == "2"
    assert command[-2:] == ["-m", "not slow"]
