"""What the server counts, in Prometheus' format; each app has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest


class Metrics:
    """The server's metrics; the labels hold routes, statuses and outcomes, never identifiers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # the process's own memory and open files, beside what was granted
        self.requests = Counter(
            "medals_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.received = Counter("medals_received_bytes", "Bytes of request bodies", registry=self.registry)
        self.sent = Counter("medals_sent_bytes", "Bytes of response bodies", registry=self.registry)
        self.runs = Counter("medals_runs", "Runs ended", ["outcome"], registry=self.registry)
        self.run_seconds = Histogram(
            "medals_run_seconds",
            "Duration of runs without their waiting",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
            registry=self.registry,
        )
        self.evictions = Counter("medals_evictions", "What was evicted for memory", ["what"], registry=self.registry)
        self.wrong_keys = Counter("medals_wrong_keys", "Requests without a right key", registry=self.registry)

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when the metrics are asked for.

        Args:
            name: Its name in Prometheus.
            what: What it says, in words.
            read: Returns its value.
        """
        Gauge(name, what, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)
