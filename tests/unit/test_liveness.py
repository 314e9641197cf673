"""What counts as a worker that is alive, on a clock of the test's own."""

import _thread
import threading
import time
from collections.abc import Callable, Hashable

import pytest

from sandbox.waiting import until
from tasks.periodic import Periodic
from tasks.probes import liveness
from tasks.probes.liveness import PATIENCE, WORK_PATIENCE, Liveness
from tasks.telemetry.signs_of_life import Sign, SignsOfLife


class Watched:
    """A worker with an event loop and one other thread, neither of which does anything unless it is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, starts: Callable[..., object] | None = None) -> None:
        monkeypatch.setattr(_thread, "start_new_thread", starts or (lambda run, args: run(*args)))
        self.signs = SignsOfLife()
        self.loop = self.signs.threads[1] = Sign("the event loop", always=True)
        self.leases = self.signs.threads[2] = Sign("the thread `leases`")
        self.at = 1000.0
        self.liveness = Liveness(self.signs, self.at)

    def passes(self, seconds: float, *going_on: Sign, redis_answers: bool = True, tick: float = 0.5) -> str:
        """Let time pass; return what is wrong then."""
        for _ in range(int(seconds / tick)):
            self.at += tick
            for sign in going_on:
                sign.give()
            self.liveness.tick(self.at, redis_answers=redis_answers)
        return " ".join(self.liveness.troubles)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_threads_that_go_on_are_alive(watched: Watched) -> None:
    assert watched.passes(3600, watched.loop, watched.leases) == ""


@pytest.mark.parametrize("stopped", ["loop", "leases"])
def test_a_thread_that_stands_still_is_named_within_35_seconds_and_forgiven_when_it_goes_on(
    watched: Watched, stopped: str
) -> None:
    others = [sign for name in ("loop", "leases") if name != stopped and (sign := getattr(watched, name))]
    watched.passes(60, watched.loop, watched.leases)
    assert watched.passes(PATIENCE - 1, *others) == ""
    trouble = watched.passes(34 - PATIENCE, *others)
    assert getattr(watched, stopped).name in trouble
    assert "restart this worker" in trouble
    assert watched.passes(1, watched.loop, watched.leases) == ""


def test_a_thread_that_said_how_long_it_waits_is_given_that_time(watched: Watched) -> None:
    watched.leases.give(due=600)
    assert watched.passes(600 + PATIENCE - 1, watched.loop) == ""
    assert "leases" in watched.passes(3, watched.loop)


def test_a_thread_that_has_ended_is_not_waited_for(watched: Watched) -> None:
    watched.passes(PATIENCE - 1, watched.loop)
    del watched.signs.threads[2]
    assert watched.passes(60, watched.loop) == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_by_an_error_is_trouble_at_once(watched: Watched) -> None:
    def work() -> None:
        raise SystemExit

    periodic = Periodic("leases", work, 0.01, watched.signs)
    periodic.start()
    periodic.join(time.monotonic() + 10)
    assert "the thread `leases` has ended" in watched.passes(1, watched.loop, watched.leases)


def test_a_thread_that_was_stopped_is_not_missed(watched: Watched) -> None:
    periodic = Periodic("leases", lambda: None, 0.01, watched.signs)
    periodic.start()
    until(lambda: len(watched.signs.threads) == 3 or None)
    periodic.stop()
    periodic.join(time.monotonic() + 10)
    assert len(watched.signs.threads) == 2
    assert watched.passes(1, watched.loop, watched.leases) == ""


def test_another_thread_with_the_id_of_one_that_ended_begins_anew(watched: Watched) -> None:
    watched.passes(PATIENCE - 1, watched.loop)
    watched.signs.threads[2] = Sign("another")
    assert watched.passes(PATIENCE - 1, watched.loop) == ""


def test_while_redis_is_away_the_others_may_wait_for_each_other_and_the_loop_may_not(watched: Watched) -> None:
    assert watched.passes(120, watched.loop, redis_answers=False) == ""
    assert watched.passes(PATIENCE - 1, watched.loop) == "", "their time begins when it is back"
    assert "the event loop" in watched.passes(PATIENCE + 2, watched.leases, redis_answers=False)


@pytest.mark.parametrize("pause", [60.0, 86_400.0])
def test_time_in_which_the_whole_process_stood_does_not_count(watched: Watched, pause: float) -> None:
    watched.passes(20)
    watched.at += pause
    assert watched.passes(2) == ""
    assert "the event loop" in watched.passes(10)


def test_a_clock_that_goes_back_counts_nothing(watched: Watched) -> None:
    watched.passes(20)
    watched.at -= 1000
    assert watched.passes(2) == ""


def test_messages_that_make_no_progress_count_after_the_longest_call(watched: Watched) -> None:
    progress: list[Hashable] = [None]
    watched.liveness.watch_work(lambda: progress[0], 15.0)

    def passes(seconds: float, **more: bool) -> str:
        return watched.passes(seconds, watched.loop, watched.leases, **more)

    assert passes(600) == "", "there is nothing to do"
    progress[0] = (0, None)
    assert passes(15 + WORK_PATIENCE - 1) == ""
    assert "messages are worked on and have made no progress" in passes(3)
    progress[0] = (1, None)
    assert passes(1) == ""
    passes(15 + WORK_PATIENCE - 1)
    watched.signs.others += 1
    assert passes(15 + WORK_PATIENCE - 1) == "", "one of their threads has waited for Redis"
    assert passes(300, redis_answers=False) == "", "they wait for Redis"


def test_no_thread_that_can_be_started_is_trouble_with_the_limit_as_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [True]

    def start(run: Callable[..., None], args: tuple[object, ...]) -> None:
        if refused[0]:
            raise RuntimeError("can't start new thread")
        run(*args)

    watched = Watched(monkeypatch, starts=start)
    going_on = (watched.loop, watched.leases)
    assert watched.passes(20, *going_on) == "", "it may be short for a moment"
    trouble = watched.passes(14, *going_on)
    assert "no thread can be started" in trouble
    assert "ulimit -u" in trouble
    refused[0] = False
    assert watched.passes(5, *going_on) == ""


def test_a_thread_that_is_started_and_does_not_run_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    watched = Watched(monkeypatch, starts=lambda *each: started.append(each))
    assert "a new thread has not run" in watched.passes(34, watched.loop, watched.leases)
    assert len(started) == 1, "threads that do not run must not pile up"


def test_signs_are_of_the_thread_that_gives_them() -> None:
    signs = SignsOfLife()
    own = signs.begin("own")
    signs.give()
    thread = threading.Thread(target=signs.give)
    thread.start()
    thread.join()
    assert (own.given, signs.others) == (1, 1)
    signs.end()
    assert signs.threads == {}
    assert liveness.PATIENCE < 35
