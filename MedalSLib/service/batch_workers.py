"""A batch on Ray: workers with an engine each take the next study when they are free.

A study is handed out only to a worker that has said that it is there, so that one which the cluster has no room for
holds up nothing.  What a lost worker had in hand is done by another.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from MedalSLib.engine.interface import Engine
from MedalSLib.errors import MedalSError, ResourceError
from MedalSLib.service.batch_files import BatchJob, StudyOutcome
from MedalSLib.service.batch_study import segment_study

CRASHES_ALLOWED = 2
"""Times a study may take its worker process along before it counts as failed."""
LISTEN_SECONDS = 0.5
"""How often the cancel is looked at while workers work."""
PLACE_SECONDS = 600.0
"""How long a batch without a single worker waits for room in the cluster."""


class RayWorkers:
    """The workers of one batch.

    Args:
        job: What is done with each study.
        names: File name of each result.
        factory: Makes an engine from a model and a device.
        workers: How many are wanted.
        begin: Told each study before it is handed out.
        say: Told what the user should know about the cluster.

    Raises:
        ResourceError: Ray is not installed.
    """

    def __init__(
        self,
        job: BatchJob,
        names: dict[Path, str],
        factory: Callable[[str, str], Engine],
        workers: int,
        begin: Callable[[Path], None],
        say: Callable[[str], None],
    ) -> None:
        self._ray, self._worker = _ray_worker(job, factory)
        self._job = job
        self._names = names
        self._wanted = workers
        self._begin = begin
        self._say = say
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[Any, str, Path]] = {}
        self._waiting: deque[Path] = deque()
        self._crashes: Counter[Path] = Counter()

    def work(self, studies: list[Path], stop: Callable[[], None]) -> Generator[StudyOutcome, None, None]:
        """Yield the outcome of each study as it ends.

        Args:
            studies: What is to be done.
            stop: Called now and then; raises to end the batch.

        Raises:
            MedalSError: No worker can make its engine.
            ResourceError: The cluster has no room for any worker.
        """
        self._waiting = deque(studies)
        self._say_what_fits()
        for _ in range(min(self._wanted, len(studies))):
            self._start_worker()
        worked = time.monotonic()
        try:
            while self._waiting or self._running:
                ready, _ = self._ray.wait([*self._starting, *self._running], num_returns=1, timeout=LISTEN_SECONDS)
                stop()
                for one in ready:
                    worked = time.monotonic()
                    if one in self._starting:
                        self._worker_is_there(one)
                    elif (outcome := self._study_ended(one)) is not None:
                        yield outcome
                if not self._running and time.monotonic() - worked > PLACE_SECONDS:
                    raise ResourceError(
                        "The Ray cluster has had no room for a worker for ten minutes.",
                        "Look at `ray status`; the same command goes on where the batch ended.",
                    )
        finally:
            for worker in [*self._starting.values(), *(worker for worker, _, _ in self._running.values())]:
                self._ray.kill(worker)

    def _say_what_fits(self) -> None:
        resources = self._ray.cluster_resources()
        kind = "GPU" if resources.get("GPU", 0) else "CPU"
        room = int(resources.get(kind, 0))
        if self._wanted > room:
            self._say(
                f"{self._wanted} workers were asked for, and the cluster has {room} {kind}s: {room} work at once."
            )

    def _start_worker(self) -> None:
        worker = self._worker.remote()
        self._starting[worker.node.remote()] = worker

    def _worker_is_there(self, one: Any) -> None:
        worker = self._starting.pop(one)
        try:
            node = self._ray.get(one)
        except self._ray.exceptions.RayActorError:
            self._start_worker()
        else:
            self._hand_out(worker, node)

    def _hand_out(self, worker: Any, node: str) -> None:
        if not self._waiting:
            self._ray.kill(worker)  # its place may be wanted by others
            return
        study = self._waiting.popleft()
        self._begin(study)
        self._running[worker.segment.remote(study, self._names[study])] = (worker, node, study)

    def _study_ended(self, one: Any) -> StudyOutcome | None:
        """Return what came of a study; None if it is tried again because its worker was lost."""
        worker, node, study = self._running.pop(one)
        try:
            outcome = self._ray.get(one)
        except self._ray.exceptions.RayActorError as error:
            self._start_worker()
            lost = all(machine["NodeID"] != node or not machine["Alive"] for machine in self._ray.nodes())
            self._crashes[study] += not lost  # a machine that went away is not the study's fault
            if self._crashes[study] < CRASHES_ALLOWED:
                self._waiting.appendleft(study)
                return None
            cause = f"The worker process ended {CRASHES_ALLOWED} times ({type(error).__name__})."
            remedy = "It probably ran out of memory."
            return StudyOutcome(str(study), "failed", cause=cause, remedy=remedy, asked=self._job.asked)
        if isinstance(outcome, MedalSError):  # no worker can make its engine
            self._ray.kill(worker)
            raise outcome
        self._hand_out(worker, node)
        return outcome


def _ray_worker(job: BatchJob, factory: Callable[[str, str], Engine]) -> tuple[Any, Any]:
    """Return Ray, connected, and the class of its workers: one engine each, in a process of its own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ResourceError("Ray is not installed.", 'Install "medals[scale-out]" with pip.') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    job = replace(job, output=job.output.absolute())  # workers have other working folders

    class Worker:
        def __init__(self) -> None:
            self.engine: Engine | None = None

        def node(self) -> str:
            return ray.get_runtime_context().get_node_id()

        def segment(self, study: Path, result: str) -> StudyOutcome | MedalSError:
            try:
                self.engine = self.engine or factory(job.model, job.device)
            except MedalSError as error:
                return error
            return replace(segment_study(self.engine, study.absolute(), job, result), study=str(study))

    gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
    return ray, ray.remote(num_cpus=1, num_gpus=gpus)(Worker)
