"""The installation: checks, steps, constraints, restart and resume, failures in one sentence, diagnostics."""

from __future__ import annotations

from dataclasses import replace
from subprocess import CalledProcessError

import pytest
from panel_doubles import DirectJobs, InstallHost, MemoryStore

from MedalSLib.errors import MedalSError, OutputError, ResourceError
from MedalSLib.panel.install import packages, system
from MedalSLib.panel.install.diagnostics import anonymous
from MedalSLib.panel.install.failures import explain
from MedalSLib.panel.install.installer import Installer
from MedalSLib.panel.install.preflight import canInstall, preflight
from MedalSLib.panel.install.presenter import InstallPresenter
from MedalSLib.panel.install.system import Gpu, SystemFacts
from MedalSLib.panel.panel_settings import Settings

GIB = 2**30
GOOD = SystemFacts(
    slicer=(5, 12),
    python=(3, 12),
    system="Linux",
    machine="x86_64",
    prefix="/opt/Slicer",
    free_bytes=100 * GIB,
    memory_bytes=32 * GIB,
    gpus=(Gpu("NVIDIA RTX", 24000, "550.1"),),
    network="",
)
SLICERS = {"numpy": "2.4.6", "scipy": "1.17.1", "requests": "2.34.2", "vtk": "9.6.0"}


def failed(facts):
    return [check.name for check in preflight(facts) if check.state == "failed"]


def text(facts, name):
    return next(check.text for check in preflight(facts) if check.name == name)


class TestPreflight:
    def test_a_good_computer_passes_every_check(self):
        assert {check.state for check in preflight(GOOD)} == {"ok"} and canInstall(preflight(GOOD))

    @pytest.mark.parametrize(
        ("change", "name", "says"),
        [
            ({"slicer": (5, 8), "python": (3, 9)}, "3D Slicer and Python", "5.10 or newer"),
            ({"system": "Darwin", "machine": "x86_64"}, "Platform", "use a server"),
            ({"free_bytes": GIB}, "Disk", "Free some space"),
            ({"network": "ProxyError"}, "Network", "ProxyError"),
            ({"system": "Windows", "prefix": "C:/" + "x" * 100}, "Folder of 3D Slicer", "C:/Slicer"),
        ],
    )
    def test_what_cannot_work_is_refused_with_the_remedy(self, change, name, says):
        facts = replace(GOOD, **change)
        assert failed(facts) == [name] and says in text(facts, name)

    @pytest.mark.parametrize(
        ("change", "name", "says"),
        [
            ({"memory_bytes": 4 * GIB}, "Memory", "region of interest"),
            ({"gpus": ()}, "Graphics card", "minutes instead of seconds"),
            ({"gpus": (Gpu("Old", 2000, "550.1"),)}, "Graphics card", "little memory"),
            ({"gpus": (Gpu("RTX", 24000, "470.82"),)}, "Graphics card", "driver is too old"),
            ({"torch": "2.9.1"}, "PyTorch", "ten times slower"),
            ({"torch": "?"}, "PyTorch", "broke off"),
            ({"free_bytes": None}, "Disk", "cannot be read"),
            ({"network": None}, "Network", "Not tried"),
        ],
    )
    def test_what_may_become_a_problem_is_said_and_not_refused(self, change, name, says):
        facts = replace(GOOD, **change)
        assert failed(facts) == [] and says in text(facts, name)

    def test_without_a_graphics_card_less_space_is_needed(self):
        assert failed(replace(GOOD, gpus=(), free_bytes=3 * GIB)) == []

    def test_an_arm_mac_may_install(self):
        assert failed(replace(GOOD, system="Darwin", machine="arm64")) == []

    def test_the_drivers_answer_is_read(self):
        line = "NVIDIA A100, 81920, 535.104.05\nNVIDIA T4, 15360, 535.104.05\n"
        facts = system.gather((5, 12), ["numpy", "no-such-package"], run=lambda command: line)
        assert [gpu.name for gpu in facts.gpus] == ["NVIDIA A100", "NVIDIA T4"]
        assert facts.gpus[0] == Gpu("NVIDIA A100", 81920.0, "535.104.05")
        assert facts.packages["numpy"] and facts.packages["no-such-package"] == ""
        assert facts.network is None and facts.free_bytes and facts.memory_bytes

    @pytest.mark.parametrize("answer", ["", "Failed to initialize NVML\n", "[N/A], [N/A], [N/A]"])
    def test_a_driver_that_fails_is_no_graphics_card(self, answer):
        assert system.gather((5, 12), [], run=lambda command: answer).gpus == ()


class TestPackages:
    def test_torch_and_slicers_own_packages_are_not_among_the_requirements(self):
        names = {name.casefold() for name in packages.names(packages.requirements())}
        assert names and not names & {name.casefold() for name in packages.OWN}

    def test_constraints_pin_what_is_installed_exactly_and_keep_the_other_bounds(self):
        lines = packages.constraints({"numpy": "2.4.6", "vtk": "9.6.0"})
        assert "numpy==2.4.6" in lines and "vtk==9.6.0" in lines
        assert not [line for line in lines if line.startswith("numpy>")]
        assert [line for line in lines if line.startswith("torch")]

    def test_a_local_version_is_pinned_without_its_label(self):
        assert "torch==2.8.0" in packages.constraints({"torch": "2.8.0+cu128"})

    def test_missing_and_too_old_packages_are_found(self):
        versions = {"a": "1.0", "b": "0.1"}
        lines = ["a>=1", "b>=1", "c", "d; sys_platform == 'none'"]
        assert packages.missing(lines, lambda name: versions.get(name, "")) == ("b>=1", "c")


def install(host):
    steps, log = [], []
    need = Installer(host, lambda _text, share: steps.append(share), log.append).install()
    return need, steps, log


class TestInstaller:
    def test_torch_comes_through_its_extension_and_the_rest_under_constraints(self):
        host = InstallHost(SLICERS)
        need, steps, _ = install(host)
        assert need == ""
        assert host.installed[0] == f"torch{packages.TORCH}"
        assert tuple(host.installed[1:]) == packages.requirements()
        assert "numpy==2.4.6" in host.constraints
        assert steps and steps == sorted(steps)

    def test_without_the_extension_it_is_installed_and_a_restart_is_due(self):
        host = InstallHost(SLICERS, extension="")
        need, _, _ = install(host)
        assert need == "restart" and host.installed == ["extension PyTorch"]

    def test_after_the_restart_it_goes_on_where_it_stopped(self):
        host = InstallHost(SLICERS, extension="")
        install(host)
        host.extension = "usable"
        need, _, _ = install(host)
        assert need == "" and host.torch == "2.8.0" and not packages.missing(packages.requirements(), host.version)

    def test_what_is_there_is_left_alone(self):
        host = InstallHost(SLICERS)
        install(host)
        host.installed.clear()
        assert install(host)[0] == "" and host.installed == []

    def test_half_an_installation_of_torch_is_done_again(self):
        host = InstallHost(SLICERS, torch="?")
        install(host)
        assert host.torch == "2.8.0"

    def test_an_extension_that_cannot_be_had_is_explained(self):
        with pytest.raises(ResourceError, match="Extensions Manager"):
            install(InstallHost(SLICERS, extension="refused"))

    def test_a_package_that_was_imported_before_needs_a_restart(self):
        host = InstallHost(SLICERS)
        host.imported = {"psutil"}
        assert install(host)[0] == "restart"

    def test_a_changed_package_of_slicer_is_found_out(self):
        with pytest.raises(ResourceError, match=r"numpy 2\.4\.6 → 1\.26\.4"):
            install(InstallHost(SLICERS, changes={"numpy": "1.26.4"}))

    def test_a_failure_is_explained_from_what_pip_said(self):
        error = CalledProcessError(1, "pip", stderr="OSError: [Errno 28] No space left on device")
        with pytest.raises(OutputError, match="no space left"):
            install(InstallHost(SLICERS, fails="packages", error=error))


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("OSError: [WinError 206] The filename or extension is too long", "too long for Windows"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "no space left"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "proxy or firewall replaces"),
        ("NewConnectionError: getaddrinfo failed", "cannot be reached"),
        ("PermissionError: [WinError 5] Access is denied", "may not be changed"),
        ("ERROR: ResolutionImpossible: for help visit", "do not fit"),
        ("ERROR: No matching distribution found for torch", "not made for this Python"),
        ("Killed", "ran out of memory"),
        ("something new\nvery odd error.", "very odd error."),
        ("", "no output"),
    ],
)
def test_known_failures_have_one_sentence_and_a_remedy(said, cause):
    error = explain(said)
    assert isinstance(error, MedalSError) and cause in error.cause and error.remedy


class Page:
    def __init__(self, host=None, facts=GOOD):
        self.host = host or InstallHost(SLICERS)
        self.settings = Settings(MemoryStore())
        self.facts = facts
        self.looked = 0
        self.presenter = InstallPresenter(
            self.host, self.settings, self._facts, DirectJobs(), engineWords=lambda: "isolated, CPU"
        )

    def _facts(self):
        self.looked += 1
        return self.facts


class TestPresenter:
    def test_nothing_is_looked_at_or_installed_before_a_button_was_pressed(self):
        page = Page()
        assert page.looked == 0 and page.presenter.checks == () and page.host.installed == []
        assert "needs an installation" in page.presenter.status

    def test_install_ends_with_everything_there(self):
        page = Page()
        page.presenter.install()
        assert page.presenter.isInstalled and page.presenter.message.level == "success"
        assert page.settings.pendingInstall == "" and not page.presenter.needsRestart

    def test_a_failed_check_stops_it_before_anything_changes(self):
        page = Page(facts=replace(GOOD, free_bytes=GIB))
        page.presenter.install()
        assert page.host.installed == [] and page.presenter.message.text.startswith("Disk:")
        assert not page.presenter.canInstall

    def test_restart_and_resume(self):
        page = Page(InstallHost(SLICERS, extension=""))
        page.presenter.install()
        assert page.presenter.needsRestart and page.settings.pendingInstall == "local"
        page.presenter.restart()
        assert page.host.restarted == 1
        page.host.extension = "usable"
        again = InstallPresenter(page.host, page.settings, page._facts, DirectJobs())
        assert again.pending and "press Continue" in again.status
        again.install()
        assert again.isInstalled and page.settings.pendingInstall == ""

    def test_a_begun_installation_can_be_given_up(self):
        page = Page(InstallHost(SLICERS, extension=""))
        page.presenter.install()
        page.presenter.dismiss()
        assert page.settings.pendingInstall == ""

    def test_a_failure_is_said_and_can_be_tried_again(self):
        page = Page(InstallHost(SLICERS, fails="torch", error=RuntimeError("getaddrinfo failed")))
        page.presenter.install()
        assert "cannot be reached" in page.presenter.message.text and page.presenter.canInstall
        page.host.fails = ""
        page.presenter.install()
        assert page.presenter.isInstalled

    def test_the_button_pressed_twice_installs_once(self):
        page = Page()
        page.presenter.pump = page.presenter.install
        page.presenter.install()
        assert len([one for one in page.host.installed if one.startswith("torch")]) == 1

    def test_diagnostics_hold_versions_checks_and_log_but_no_user_name(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/jdoe")
        monkeypatch.setenv("USER", "jdoe")
        page = Page(facts=replace(GOOD, prefix="/home/jdoe/Slicer", packages={"safetensors": "0.5"}))
        page.presenter.install()
        page.presenter.log.append("installed into /home/jdoe/Slicer/lib")
        said = page.presenter.diagnostics()
        for part in ("3D Slicer 5.12", "NVIDIA RTX", "isolated, CPU", "safetensors 0.5", "~/Slicer/lib"):
            assert part in said
        assert "jdoe" not in said


def test_paths_lose_the_user_name_on_every_platform(monkeypatch):
    monkeypatch.setenv("USERNAME", "jdoe")
    assert anonymous("C:\\Users\\jdoe\\x and /media/jdoe/y") == "C:\\Users\\~\\x and /media/~/y"
