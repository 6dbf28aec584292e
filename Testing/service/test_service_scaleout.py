"""The same app on Ray Serve with two replicas: sessions stay on theirs, and survive its loss."""

from __future__ import annotations

import os
import signal
import socket

import numpy as np
import pytest
from fake_engine import FakeEngine
from service_support import AFFINE, KEY, ROOT, make_image, small_settings

from MedalSLib.errors import ServiceError
from MedalSLib.service.client import connect

ray = pytest.importorskip("ray", reason="needs the scale-out extra")
from MedalSLib.service.scaleout import start_on_ray, stop_on_ray  # noqa: E402 - after the skip

pytestmark = pytest.mark.slow


class LabeledEngine(FakeEngine):
    """Says in its modality which process it is."""

    def open_session(self, array_kji, affine_ras, modality=None):
        return super().open_session(array_kji, affine_ras, str(os.getpid()))


@pytest.fixture(scope="module")
def url():
    paths = os.pathsep.join([str(ROOT), str(ROOT / "Testing" / "support"), str(ROOT / "Testing" / "service")])
    # Slow machines need longer than Ray's own five seconds until its parts answer.
    for name in ("PROXY_READY_CHECK_TIMEOUT_S", "PROXY_HEALTH_CHECK_TIMEOUT_S"):
        os.environ[f"RAY_SERVE_{name}"] = "120"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    try:
        yield start_on_ray(
            lambda: LabeledEngine(patches=10, seconds_per_patch=0.05), small_settings(port=port), replicas=2
        )
    finally:
        stop_on_ray()


def test_sessions_spread_over_the_replicas_and_each_stays_on_its_own(url: str) -> None:
    with connect(url, KEY) as engine:
        sessions = [engine.open_session(make_image(seed=number), AFFINE) for number in range(8)]
        assert len({session.modality for session in sessions}) == 2
        for session in sessions[:3]:
            assert {session.segment(["liver"]).report.modality for _ in range(2)} == {session.modality}


def test_a_killed_replica_costs_a_session_nothing_but_time(url: str) -> None:
    image = make_image()
    expected = FakeEngine(patches=10).open_session(image, AFFINE).segment(["liver"]).masks["liver"]
    with connect(url, KEY) as engine, engine.open_session(image, AFFINE) as session:
        first = session.modality
        killed = []

        def kill_once(progress) -> None:
            if not killed and progress.fraction > 0.3:
                killed.append(os.kill(int(first), signal.SIGKILL))

        result = session.segment(["liver"], on_progress=kill_once)
        assert killed and np.array_equal(result.masks["liver"], expected)
        assert session.modality != first


def test_keys_hold_on_ray_too(url: str) -> None:
    with pytest.raises(ServiceError, match="does not know this API key"):
        connect(url, "wrong-key-wrong-key")
