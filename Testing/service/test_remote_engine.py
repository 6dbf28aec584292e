"""The remote engine answers exactly as the engine behind it does: a real server under a real client."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fake_engine import CRASH, OUT_OF_MEMORY, UNKNOWN, FakeEngine
from service_support import AFFINE, Running, make_image, running_server, same_result, wait_until

from MedalSLib.engine import open_engine
from MedalSLib.errors import InputError, PromptError, ResourceError, ServiceError
from MedalSLib.run import RunOptions


@pytest.fixture(scope="module")
def server():
    with running_server() as running:
        yield running


def test_open_engine_takes_a_url(server: Running) -> None:
    with open_engine(server.url, api_key="a-key-of-the-tests") as engine:
        assert engine.info() == FakeEngine().info()


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "uint16", "int32", "float16", "float32", "float64", "bool"])
def test_every_type_of_image_gives_the_result_of_the_local_engine(server: Running, dtype: str) -> None:
    image = (make_image() % 2 if dtype == "bool" else make_image() % 200).astype(dtype)
    before = image.copy()
    local = FakeEngine().open_session(image, AFFINE, "CT").segment(["liver"])
    with server.connect() as engine, engine.open_session(image, AFFINE, "CT") as session:
        assert same_result(session.segment(["liver"]), local)
    assert np.array_equal(image, before)


def test_a_full_request_gives_the_result_of_the_local_engine(server: Running) -> None:
    image = make_image()
    masks = {"Spleen": image > 900, "Empty": np.zeros(image.shape, bool), "Strided": (image > 0)[::-1]}
    arguments = {
        "prompts": ["liver", "left kidney"],
        "masks": masks,
        "locked": {"Spleen": image < -900},
        "roi": ((1, 15), (2, 19), (0, 11)),
        "options": RunOptions(seed=3, instances=("Liver",), windows={"Liver": "400/40"}),
    }
    local = FakeEngine().open_session(image, AFFINE).segment(**arguments)
    progress, structures = [], {}
    with server.connect() as engine, engine.open_session(image, AFFINE) as session:
        assert session.modality == "CT" and session.warnings == ("Taken for CT.",)
        remote = session.segment(**arguments, on_progress=progress.append, on_structure=structures.__setitem__)
    assert same_result(remote, local)
    assert np.array_equal(remote.masks["LIVER"], remote.masks["Liver"])
    assert structures.keys() == local.masks.keys()
    assert structures == local.box_masks
    fractions = [step.fraction for step in progress]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_the_callbacks_come_from_the_thread_that_segments(server: Running) -> None:
    threads = set()
    with server.connect() as engine, engine.open_session(make_image(), AFFINE) as session:
        session.segment(
            ["liver"],
            on_progress=lambda _: threads.add(threading.get_ident()),
            on_structure=lambda *_: threads.add(threading.get_ident()),
        )
    assert threads == {threading.get_ident()}


def test_an_image_is_sent_once(server: Running) -> None:
    image = make_image(seed=11)
    received = server.service.metrics.received
    with server.connect() as engine:
        first = received._value.get()
        engine.open_session(image, AFFINE)
        second = received._value.get()
        engine.open_session(image, AFFINE)
        assert second - first > image.nbytes / 2
        assert received._value.get() - second < 2000


def test_a_changed_image_is_not_sent_instead_of_the_one_that_was_opened(server: Running) -> None:
    image = make_image(seed=12)
    expected = FakeEngine().open_session(image.copy(), AFFINE).segment(["liver"])
    with server.connect() as engine, engine.open_session(image, AFFINE) as session:
        image[:] = 0
        server.service.store.close()
        assert same_result(session.segment(["liver"]), expected)


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        (UNKNOWN, PromptError, "Did you mean liver"),
        (OUT_OF_MEMORY, ResourceError, "ran out of memory"),
        (CRASH, ServiceError, "RuntimeError"),
    ],
)
def test_an_engine_that_fails_is_explained_and_works_again(
    server: Running, prompt: str, error: type[Exception], words: str
) -> None:
    with server.connect() as engine, engine.open_session(make_image(), AFFINE) as session:
        with pytest.raises(error, match=words) as raised:
            session.segment([prompt])
        assert "John Doe" not in str(raised.value)
        assert session.segment(["liver"]).masks["liver"].any()


def test_what_the_engine_does_not_take_is_explained(server: Running) -> None:
    with server.connect() as engine:
        with pytest.raises(InputError, match="one value everywhere"):
            engine.open_session(np.zeros((4, 5, 6), np.int16), AFFINE)
        with pytest.raises(InputError, match="no volume"):
            engine.open_session(make_image(), np.diag([0.0, 1, 1, 1]))
        with pytest.raises(InputError, match="three axes"):
            engine.open_session(np.zeros((4, 5)), AFFINE)
        with pytest.raises(InputError, match="type complex"):
            engine.open_session(np.zeros((4, 5, 6), complex), AFFINE)
        with pytest.raises(InputError, match="finite"):
            engine.open_session(make_image(), AFFINE * np.nan)
        session = engine.open_session(make_image(), AFFINE)
        with pytest.raises(InputError, match="“Liver” has the shape"):
            session.segment(masks={"Liver": np.ones((2, 2, 2), bool)})


def test_an_estimate_is_the_engine_s(server: Running) -> None:
    image = make_image()
    with server.connect() as engine, engine.open_session(image, AFFINE) as session:
        assert session.estimate(["a", "b"], {"c": image > 0}).patches == 3
        server.service.store.close()
        assert session.estimate(["a"]).patches == 1


def test_a_closed_session_and_a_closed_engine_say_so(server: Running) -> None:
    engine = server.connect()
    session = engine.open_session(make_image(), AFFINE)
    engine.close()
    with pytest.raises(ServiceError, match="closed"):
        session.segment(["liver"])
    with pytest.raises(ServiceError, match="closed"):
        engine.open_session(make_image(), AFFINE)


def test_a_callback_that_raises_stops_the_run_and_leaves_the_session_usable() -> None:
    fake = FakeEngine(patches=50)

    def stumble(_: object) -> None:
        raise ValueError("the front end's own bug")

    with running_server(fake) as running, running.connect() as engine:
        # After its first patch the engine waits until it is told to stop.
        fake.before_patch = lambda patch: patch == 1 and running.service.queue.running.cancel.wait(60)
        with engine.open_session(make_image(), AFFINE) as session:
            with pytest.raises(ValueError, match="own bug"):
                session.segment(["liver"], on_progress=stumble)
            wait_until(lambda: running.service.queue.running is None)
            assert fake.patches_done == 1
            fake.before_patch = lambda patch: None
            session.segment(["liver"])


def test_the_upload_is_described_before_it_happens(server: Running) -> None:
    with server.connect() as engine:
        words = engine.describe_upload(make_image(), ["liver"], ["Spleen"])
        assert words.host == "127.0.0.1" and words.local and not words.encrypted
        assert "12 x 20 x 16" in words.text and "Spleen" in words.text and "patient's name" in words.text
        assert server.service.store.session_count() == 0
