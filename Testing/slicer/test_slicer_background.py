"""The worker thread and the pump: order, faults on either side, and an interface that gets its turn."""

from __future__ import annotations

import threading
import time

import pytest
from slicer_host import why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture
def worker():
    from MedalSLib.slicer.background import Worker

    worker = Worker()
    yield worker
    worker.close()


def test_events_come_in_order_on_the_calling_thread_and_the_result_last(worker):
    seen = []

    def work(send):
        for number in range(5):
            send(number)
        return "done"

    result = worker.submit(work).drive(lambda: None, lambda event: seen.append((event, threading.current_thread())))
    assert result == "done"
    assert seen == [(number, threading.main_thread()) for number in range(5)]


def test_the_interface_gets_its_turn_between_events_that_take_long(worker):
    rounds = []
    order = []

    def slow(event):
        time.sleep(0.06)
        order.append(event)

    def work(send):
        for number in range(4):
            send(number)

    worker.submit(work).drive(lambda: rounds.append(len(order)), slow, poll=0.001)
    assert order == [0, 1, 2, 3]
    assert {1, 2, 3} <= set(rounds)


def test_what_the_work_raises_is_raised_here(worker):
    def work(_send):
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        worker.submit(work).drive(lambda: None)


@pytest.mark.parametrize("where", ["event", "pump"])
def test_a_fault_on_this_side_stops_the_work_and_waits_for_its_end(worker, where):
    stop = threading.Event()
    ended = []

    def work(send):
        send("event")
        stop.wait(5)
        ended.append(stop.is_set())

    def fail(*_args):
        raise ValueError(where)

    quiet = dict.fromkeys(("pump", "event"), lambda *_args: None)
    with pytest.raises(ValueError, match=where):
        functions = {**quiet, where: fail}
        worker.submit(work).drive(functions["pump"], functions["event"], stop.set, 0.001)
    assert ended == [True]


def test_all_work_runs_on_one_lasting_thread(worker):
    def name(_send):
        return threading.get_ident()

    first = worker.submit(name).drive(lambda: None)
    assert worker.submit(name).drive(lambda: None) == first != threading.get_ident()


def test_a_closed_worker_starts_again(worker):
    worker.submit(lambda _send: None).drive(lambda: None)
    worker.close()
    assert worker.submit(lambda _send: 7).drive(lambda: None) == 7
