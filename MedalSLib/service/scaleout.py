"""More load than one machine can take: the same app on Ray Serve, a replica for each GPU.

Ray Serve was chosen because it exists and is kept: it places replicas on GPUs and machines, scales them with the
load, restarts those that fail, and its consistent-hash router keeps a session on one replica by the `X-Session-ID`
that every request of our client carries.  The sessions of a lost replica are lost with it; the client then sends its
image to another one, exactly as after a restart of a single server.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from MedalSLib.errors import ResourceError, ServiceError
from MedalSLib.service.app import create_app
from MedalSLib.service.keys import read_key_file
from MedalSLib.service.logs import configure_logging
from MedalSLib.service.server import EngineFactory
from MedalSLib.service.settings import Settings, check_exposure

APP_NAME = "medals"
RUNS_PER_REPLICA = 2.0
"""Requests a replica should have open on average before another is started: a run in work and one that waits."""


def make_deployment(factory: EngineFactory, settings: Settings, replicas: int | None, gpus: float) -> Any:
    """Return the app as a Ray Serve application.

    Args:
        factory: Makes the engine, in each replica.
        settings: Limits and keys, for each replica.
        replicas: Fixed number of replicas; None to scale with the load, up to one a GPU of the cluster.
        gpus: GPUs of each replica, 0 for the CPU.
    """
    from ray import serve
    from ray.serve.config import AutoscalingConfig, RequestRouterConfig
    from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

    @serve.ingress()
    class Replica:
        """One replica: an engine of its own behind an app of its own."""

        def __serve_build_asgi_app__(self) -> FastAPI:
            configure_logging()
            app = create_app(factory, settings)
            self.server = app.state.server
            return app

        def check_health(self) -> None:
            """Tell Ray to replace a replica whose engine hangs."""
            if self.server.stuck:
                raise RuntimeError("a cancelled run does not end")

    scaling: dict[str, Any] = {"num_replicas": replicas}
    if replicas is None:
        config = AutoscalingConfig(
            min_replicas=1, max_replicas=most_replicas(), target_ongoing_requests=RUNS_PER_REPLICA
        )
        scaling = {"autoscaling_config": config}
    router: Any = ConsistentHashRouter  # Ray annotates the argument as a dict and takes a class
    deployment = serve.deployment(
        name="engine",
        max_ongoing_requests=settings.connections,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        request_router_config=RequestRouterConfig(request_router_class=router),
        **scaling,
    )
    return deployment(Replica).bind()


def application(arguments: dict[str, str]) -> Any:
    """Return the Ray Serve application that a Serve config file names (`import_path`), as KubeRay reads it.

    Args:
        arguments: The config's `args`: `model` and `device` as for `open_engine`, `api_key_file`, and `behind_tls`
            ("true" where a proxy in front speaks TLS; else the application does not start).

    Raises:
        ServiceError: It would be open to everybody, or would not be encrypted.
    """
    from MedalSLib.engine import open_engine

    keys = arguments.get("api_key_file")
    if not keys or arguments.get("behind_tls") != "true":
        raise ServiceError(
            "The application would let everybody in, or would not be encrypted.",
            "Give api_key_file, and behind_tls: true where an ingress speaks TLS.",
        )
    model, device = arguments.get("model", "starter"), arguments.get("device", "auto")
    settings = Settings(host="0.0.0.0", key_file=Path(keys), insecure=True)
    read_key_file(Path(keys))
    gpus = 0.0 if device == "cpu" else 1.0
    return make_deployment(lambda: open_engine(model, device), settings, None, gpus)


def most_replicas() -> int:
    """Return how many replicas the cluster has room for: one a GPU, or one for two CPUs where there is none."""
    import ray

    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 0)) or int(resources.get("CPU", 1)) // 2)


def start_on_ray(factory: EngineFactory, settings: Settings, replicas: int | None = None) -> str:
    """Deploy on the Ray cluster of RAY_ADDRESS, or on a new one on this machine, and return the address.

    Args:
        factory: Makes the engine, in each replica.
        settings: Limits and keys, for each replica.
        replicas: Fixed number of replicas; None to scale with the load.

    Raises:
        ServiceError: Exposed without key or TLS, a port of 0, or Ray cannot start.
        ResourceError: Ray is not installed.
    """
    check_exposure(settings)
    if not settings.port:
        raise ServiceError("Ray Serve needs to know its port.", "Give --port.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports leave a hospital
    try:
        import ray
        from ray import serve
        from ray.serve.config import HTTPOptions
    except ModuleNotFoundError as error:
        raise ResourceError(
            f"The package {error.name} is not installed.", 'Install "medals[scale-out]" with pip.'
        ) from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options=HTTPOptions(
            host=settings.host,
            port=settings.port,
            ssl_certfile=None if settings.certificate is None else str(settings.certificate),
            ssl_keyfile=None if settings.certificate_key is None else str(settings.certificate_key),
        )
    )
    gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
    serve.run(make_deployment(factory, settings, replicas, gpus), name=APP_NAME, route_prefix="/")
    return settings.url(settings.port)


def stop_on_ray() -> None:
    """End the replicas, and leave the cluster."""
    import ray
    from ray import serve

    serve.shutdown()
    ray.shutdown()


def serve_on_ray(factory: EngineFactory, settings: Settings, replicas: int | None, say: Callable[[str], None]) -> None:
    """Deploy, and wait until the process is asked to stop (SIGINT or SIGTERM).

    Args:
        factory: Makes the engine, in each replica.
        settings: Limits and keys, for each replica.
        replicas: Fixed number of replicas; None to scale with the load.
        say: Told the address.

    Raises:
        ServiceError: See `start_on_ray`.
        ResourceError: Ray is not installed.
    """
    stop = threading.Event()
    url = start_on_ray(factory, settings, replicas)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    say(f"Medal S is deployed on Ray Serve at {url}; press Ctrl+C to stop.")
    stop.wait()
    stop_on_ray()
