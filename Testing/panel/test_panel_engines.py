"""Where runs are computed: choice, opening, testing, closing, and what is never written down."""

from __future__ import annotations

import threading

import pytest
from fake_engine import FakeEngine
from panel_doubles import CLASSES, DirectJobs, MemoryStore, state

from MedalSLib.errors import ResourceError, ServiceError
from MedalSLib.panel.engines import EnginePresenter, defaultFactories
from MedalSLib.panel.jobs import BackgroundJobs
from MedalSLib.panel.panel_settings import Settings


class Shelf:
    def __init__(self, jobs=None):
        self.store = MemoryStore()
        self.state = state()
        self.opened, self.order = [], []
        self.error = None
        self.presenter = EnginePresenter(
            self.state,
            Settings(self.store),
            dict.fromkeys(("isolated", "in-process", "remote"), self._open),
            jobs or DirectJobs(),
            lambda: self.order.append("session closed"),
        )

    def _open(self, choice, cancel):
        if self.error is not None:
            raise self.error
        self.opened.append(choice)
        engine = FakeEngine(classes=CLASSES)
        engine.close = lambda: self.order.append("engine closed")
        return engine


@pytest.fixture
def shelf():
    return Shelf()


def test_the_isolated_engine_of_this_computer_is_the_default(shelf):
    assert (shelf.presenter.kind, shelf.presenter.device) == ("isolated", "auto")


def test_unknown_settings_of_another_version_count_as_the_default(shelf):
    shelf.store.values = {"MedalS/engine/kind": "quantum", "MedalS/engine/device": "abacus"}
    assert (shelf.presenter.kind, shelf.presenter.device) == ("isolated", "auto")


def test_an_engine_is_opened_once_and_kept(shelf):
    assert shelf.presenter.open() is shelf.presenter.open()
    assert len(shelf.opened) == 1 and shelf.presenter.isOpen


@pytest.mark.parametrize(
    "change",
    [
        lambda engines: setattr(engines, "kind", "in-process"),
        lambda engines: setattr(engines, "device", "cpu"),
        lambda engines: setattr(engines, "model", "medals-v1"),
    ],
)
def test_another_choice_opens_another_engine_after_closing_session_and_engine(shelf, change):
    shelf.presenter.open()
    change(shelf.presenter)
    assert not shelf.presenter.isOpen and shelf.presenter.info is None
    shelf.presenter.open()
    assert shelf.order == ["session closed", "engine closed"] and len(shelf.opened) == 2


def test_a_server_needs_an_address(shelf):
    shelf.presenter.kind = "remote"
    assert shelf.presenter.badge.level == "problem"
    with pytest.raises(ServiceError, match="No server is named"):
        shelf.presenter.open()


def test_the_key_goes_to_the_server_and_nowhere_else(shelf):
    shelf.presenter.kind = "remote"
    shelf.presenter.url = " https://seg.example "
    shelf.presenter.key = " s3cret "
    shelf.presenter.open()
    assert (shelf.opened[0].url, shelf.opened[0].key) == ("https://seg.example", "s3cret")
    assert "s3cret" not in repr(shelf.store.values) + repr(vars(shelf.state))


def test_the_model_of_this_computer_is_nothing_to_a_server(shelf):
    shelf.presenter.kind, shelf.presenter.url = "remote", "https://seg.example"
    shelf.presenter.open()
    shelf.presenter.model = "medals-v1"
    assert shelf.presenter.isOpen


def test_the_badge_says_device_and_model_and_no_technical_reason(shelf):
    assert shelf.presenter.badge.level == "idle"
    shelf.presenter.open()
    badge = shelf.presenter.badge
    assert (badge.text, badge.level) == ("CPU, 2 threads", "ready")
    assert badge.detail == "Fake model"


def test_the_badge_of_a_server_names_it(shelf):
    shelf.presenter.kind, shelf.presenter.url = "remote", "https://seg.example:8000"
    assert shelf.presenter.badge.text == "Server seg.example:8000"
    shelf.presenter.open()
    assert shelf.presenter.badge.text == "CPU, 2 threads on seg.example:8000"


def test_testing_says_what_was_found(shelf):
    assert shelf.presenter.test()
    assert shelf.presenter.message.level == "success"
    assert "Fake model 1 on CPU, 2 threads, 5 structures" in shelf.presenter.message.text


def test_testing_says_why_it_failed_and_what_to_do(shelf):
    shelf.error = ServiceError("The server refuses the key.", "Ask for another one.")
    assert not shelf.presenter.test()
    assert shelf.presenter.message.text == "The server refuses the key. Ask for another one."
    assert shelf.presenter.badge.level == "problem"


def test_a_new_choice_forgets_the_old_fault(shelf):
    shelf.error = ResourceError("No GPU.")
    shelf.presenter.test()
    shelf.presenter.device = "cpu"
    assert shelf.presenter.message.text == "" and shelf.presenter.badge.level == "idle"


def test_an_engine_that_is_gone_when_closed_is_no_fault(shelf):
    engine = shelf.presenter.open()

    def gone():
        raise ServiceError("The server is gone.")

    engine.close = gone
    shelf.presenter.close()
    assert not shelf.presenter.isOpen


def test_it_is_busy_while_it_opens_and_can_be_stopped():
    shelf = Shelf(BackgroundJobs(lambda: None, poll=0.001))
    seen = []

    def slow(choice, cancel):
        seen.append(shelf.presenter.busy)
        shelf.presenter.stopOpening()
        assert cancel.wait(5)
        raise ServiceError("stopped")

    shelf.presenter.factories = {"isolated": slow}
    with pytest.raises(ServiceError):
        shelf.presenter.open()
    assert seen == [True] and not shelf.presenter.busy


def test_a_run_in_the_background_lets_the_application_go_on_and_hands_over_what_was_raised():
    rounds, events = [], []
    jobs = BackgroundJobs(lambda: rounds.append(threading.current_thread()), poll=0.001)
    go = threading.Event()

    def work(send):
        send("half")
        assert go.wait(5)
        return threading.current_thread()

    def event(what):
        events.append((what, threading.current_thread()))
        go.set()

    worker = jobs.run(work, event)
    here = threading.current_thread()
    assert worker is not here and events == [("half", here)] and rounds and set(rounds) == {here}
    with pytest.raises(ZeroDivisionError):
        jobs.run(lambda send: 1 / 0)
    jobs.close()


def test_the_real_ways_to_open_an_engine_get_the_choice(monkeypatch):
    import MedalSLib.engine
    import MedalSLib.service.child
    import MedalSLib.service.client
    from MedalSLib.panel.engines import EngineChoice

    calls = []
    monkeypatch.setattr(
        MedalSLib.service.child, "open_isolated_engine", lambda model, device, cancel: calls.append((model, device))
    )
    monkeypatch.setattr(MedalSLib.engine, "open_engine", lambda model, device: calls.append((model, device)))
    monkeypatch.setattr(MedalSLib.service.client, "connect", lambda url, key, cancel: calls.append((url, key)))
    factories = defaultFactories()
    for kind in ("isolated", "in-process", "remote"):
        factories[kind](EngineChoice(kind, "starter", "cpu", "https://a", "k"), threading.Event())
    assert calls == [("starter", "cpu"), ("starter", "cpu"), ("https://a", "k")]


def test_settings_that_were_saved_in_2026_are_read_and_written_under_the_same_keys():
    saved = {
        "MedalS/engine/kind": "remote",
        "MedalS/engine/device": "cuda",
        "MedalS/engine/url": "https://seg.example",
        "MedalS/engine/consent": '["seg.example"]',
        "MedalS/install/pending": "local",
    }
    settings = Settings(MemoryStore(saved))
    assert (settings.engineKind, settings.device, settings.serverUrl) == ("remote", "cuda", "https://seg.example")
    assert (settings.consentedHosts, settings.pendingInstall) == (("seg.example",), "local")
    store = MemoryStore()
    other = Settings(store)
    other.engineKind, other.device, other.serverUrl = settings.engineKind, settings.device, settings.serverUrl
    other.consentedHosts, other.pendingInstall = settings.consentedHosts, settings.pendingInstall
    assert store.values == saved


def test_settings_survive_a_store_that_gives_nonsense_back():
    settings = Settings(MemoryStore({"MedalS/engine/consent": "not json", "MedalS/engine/kind": "remote"}))
    assert settings.consentedHosts == () and settings.engineKind == "remote"
    settings.consentedHosts = ("a", "b")
    assert settings.consentedHosts == ("a", "b")
