"""Ctrl-C ends a search with what it has."""

import os
import signal
import threading

import pytest

from hetsim.cli.ctrl_c import ctrl_c_stops
from hetsim.planner import Watch


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ends_the_search_and_the_next_one_everything():
    watch = Watch()
    with ctrl_c_stops(watch):
        assert not watch.over
        press()
        assert watch.over
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        press()


def test_it_is_left_as_it_is_where_somebody_has_decided_on_it_or_in_another_thread():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        watch = Watch()
        with ctrl_c_stops(watch):
            press()
        assert not watch.stopped
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = []

    def elsewhere():
        with ctrl_c_stops(Watch()):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
