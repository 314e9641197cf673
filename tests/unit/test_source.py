"""Files with secrets that change while a process runs: what is taken up, and what leaves the old value in force."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.files import MAX_BYTES
from config.settings import Configuration
from config.source import Source
from tests.unit.configuring import AFTERPAY, MODELS, OPAY, Environment


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    return Environment(tmp_path, monkeypatch)


#: A key that stands where a field is to stand.
UNKNOWN: dict[str, Any] = {"new-canary2": 1}


def accounts(key: str, name: str = "shop", **fields: Any) -> str:
    return json.dumps({"opay": {name: {"merchant_id": "1", "private_key": key, **fields}}})


def keys(configuration: Configuration | None) -> dict[str, str]:
    """The OPay keys by account."""
    assert configuration is not None
    named: Any = configuration.accounts["opay"]
    return {name: account.private_key.get_secret_value() for name, account in named.items()}


class Running:
    """A process whose OPay key and whose accounts are in files."""

    def __init__(self, environment: Environment, **variables: str) -> None:
        self.key = Path(environment.file("key", "old-canary"))
        self.accounts = Path(environment.file("accounts", accounts("old-canary")))
        os.environ |= {"OPAY_PRIVATE_KEY_FILE": str(self.key), "PROVIDER_ACCOUNTS_FILE": str(self.accounts)}
        os.environ |= {"OPAY_MERCHANT_ID": "1", **variables}
        self.source = Source(MODELS)
        assert keys(self.source.load()) == {"default": "old-canary", "shop": "old-canary"}

    def settled(self) -> Configuration | None:
        """What two looks find."""
        first, second = self.source.look(), self.source.look()
        assert first is None
        return second

    @property
    def trouble(self) -> list[str]:
        found = [f"{fault.variable} {fault.problem}" for fault in self.source.faults]
        assert "canary" not in repr(self.source.faults)
        return found


@pytest.fixture
def running(environment: Environment) -> Running:
    return Running(environment)


def in_place(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def by_rename(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


def by_removal(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text, encoding="utf-8")


def with_the_times_of_before(path: Path, text: str) -> None:
    times = path.stat()
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("write", [in_place, by_rename, by_removal, with_the_times_of_before])
def test_a_file_is_taken_up_however_it_was_written(running: Running, write: Callable[[Path, str], None]) -> None:
    write(running.key, "new-canary")
    assert keys(running.settled()) == {"default": "new-canary", "shop": "old-canary"}
    write(running.accounts, accounts("new-canary"))
    assert keys(running.settled()) == {"default": "new-canary", "shop": "new-canary"}
    assert running.settled() is None


def test_files_behind_a_link_that_is_swapped_are_taken_up_together(environment: Environment) -> None:
    # As the kubelet does it: names → ..data → a folder with the time in its name.
    folder = environment.folder / "secrets"
    folder.mkdir()

    def publish(name: str, key: str) -> None:
        (folder / name).mkdir()
        (folder / name / "opay").write_text(key)
        (folder / name / "accounts").write_text(accounts(key))
        (folder / "..data_tmp").symlink_to(name)
        (folder / "..data_tmp").rename(folder / "..data")

    publish("..1", "old-canary")
    for name in ("opay", "accounts"):
        (folder / name).symlink_to(f"..data/{name}")
    os.environ |= {"OPAY_MERCHANT_ID": "1", "OPAY_PRIVATE_KEY_FILE": str(folder / "opay")}
    os.environ["PROVIDER_ACCOUNTS_FILE"] = str(folder / "accounts")
    source = Source(MODELS)
    source.load()
    publish("..2", "new-canary")
    assert source.look() is None
    assert keys(source.look()) == {"default": "new-canary", "shop": "new-canary"}


def test_a_file_that_is_being_written_is_waited_for(running: Running) -> None:
    for text in ("", "new-", "new-can", "new-canary"):
        running.key.write_text(text)
        assert running.source.look() is None
        assert running.trouble == []
    assert keys(running.source.look())["default"] == "new-canary"


def test_a_file_that_is_away_for_a_moment_is_no_trouble(running: Running) -> None:
    running.key.unlink()
    assert running.source.look() is None
    running.key.write_text("new-canary")
    assert running.source.look() is None
    assert keys(running.source.look())["default"] == "new-canary"
    assert running.trouble == []


def test_a_look_that_settles_takes_up_at_once_what_stays(running: Running) -> None:
    running.key.write_text("new-canary")
    assert keys(running.source.look(settle=True))["default"] == "new-canary"


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_text("{"), "is not JSON"),
        (lambda path: path.write_text(""), "is not JSON"),
        (lambda path: path.write_text(accounts("new-canary")[:-1]), "is not JSON"),
        (lambda path: path.write_text('["new-canary"]'), "has the wrong shape"),
        (lambda path: path.write_text('{"new-canary": {}}'), "names an unknown provider"),
        (lambda path: path.write_text(accounts("new-canary", **UNKNOWN)), "there is no such field"),
        (lambda path: path.write_text(accounts("new-canary", code_overrides={"a-long-canary": "x"})), "code_overrides"),
        (lambda path: path.write_text(accounts("")), "private_key"),
        (lambda path: path.write_text(accounts("new-canary", rate_limit=100)), "must be a number and a unit"),
        (lambda path: path.write_text(accounts("new-canary", base_url="http://canary.example")), "is http://"),
        (lambda path: path.write_bytes(b"\xff\xfe\xff"), "is not JSON"),
        (lambda path: path.write_bytes(b" " * (MAX_BYTES + 1)), f"of more than {MAX_BYTES} bytes"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (to_pipe, "not a regular file"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "symbolic links"),
    ],
)  # fmt: skip
def test_a_broken_file_leaves_its_old_value_and_no_other_in_force(
    running: Running, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(running.accounts)
    assert running.settled() is None
    troubles = running.trouble
    assert {trouble.partition(" ")[0] for trouble in troubles} == {"PROVIDER_ACCOUNTS_FILE"}
    assert said in troubles[0]
    # Another file is taken up meanwhile, in this look or in a later one.
    running.key.write_text("new-canary")
    assert keys(running.settled()) == {"default": "new-canary", "shop": "old-canary"}
    assert running.trouble == troubles


def test_a_file_that_is_broken_beside_one_that_is_new_does_not_hold_it_back(running: Running) -> None:
    running.accounts.write_text("{")
    running.key.write_text("new-canary")
    assert keys(running.settled()) == {"default": "new-canary", "shop": "old-canary"}
    assert running.trouble == ["PROVIDER_ACCOUNTS_FILE is not JSON"]


@pytest.mark.parametrize("content", [b"", b"\n", b" \n", b"\xff"])
def test_a_broken_key_leaves_the_old_one_in_force(running: Running, content: bytes) -> None:
    running.key.write_bytes(content)
    assert running.settled() is None
    [trouble] = running.trouble
    assert trouble.startswith("OPAY_PRIVATE_KEY_FILE")


def test_a_file_that_is_as_before_again_is_no_trouble_any_more(running: Running) -> None:
    running.key.write_text("")
    running.settled()
    assert running.trouble
    running.key.write_text("old-canary\n")
    assert keys(running.settled())["default"] == "old-canary"
    assert running.trouble == []
    running.key.write_text("")
    running.settled()
    running.key.write_text("old-canary\n")
    assert running.settled() is None
    assert running.trouble == []


def test_variables_are_what_they_were_when_the_process_started(environment: Environment) -> None:
    environment.file(".env", "RETRY_MAX_ATTEMPTS=4\nOPAY_RATE_LIMIT=5/s\n")
    running = Running(environment)
    environment.file(".env", "RETRY_MAX_ATTEMPTS=9\nOPAY_RATE_LIMIT=9/s\nREDIS_URL=redis://elsewhere\n")
    os.environ["OPAY_MERCHANT_ID"] = "2"
    running.key.write_text("new-canary")
    found = running.settled()
    assert keys(found)["default"] == "new-canary"
    assert found is not None
    account: Any = found.accounts["opay"]["default"]
    assert (account.merchant_id, account.rate_limit, found.settings.retry_max_attempts) == ("1", 5, 4)


def test_the_password_of_redis_may_change_and_its_address_may_not(environment: Environment) -> None:
    url = Path(environment.file("url", "redis://worker:old-canary@redis.example:6379/0"))
    running = Running(environment, REDIS_URL_FILE=str(url))
    url.write_text("redis://worker:new-canary@redis.example/0\n", encoding="utf-8")
    found = running.settled()
    assert found is not None
    assert found.settings.endpoint().parsed.password == "new-canary"
    for other in ("redis://:new-canary@other.example/0", "redis://:new-canary@redis.example/1", "redis://:canary@"):
        url.write_text(other, encoding="utf-8")
        assert running.settled() is None
        assert running.trouble[0].startswith("REDIS_URL")


def test_the_last_account_of_a_provider_is_not_taken_from_a_running_worker(environment: Environment) -> None:
    path = Path(environment.file("accounts", accounts("old-canary")))
    os.environ["PROVIDER_ACCOUNTS_FILE"] = str(path)
    source = Source(MODELS)
    source.load()
    path.write_text("{}", encoding="utf-8")
    assert source.look(settle=True) is None
    assert [fault.problem for fault in source.faults] == ["leaves opay without an account"]
    path.write_text(accounts("new-canary", "another"), encoding="utf-8")
    assert keys(source.look(settle=True)) == {"another": "new-canary"}


def test_what_can_be_read_once_is_read_once(environment: Environment) -> None:
    read, write = os.pipe()
    os.write(write, b"canary")
    os.close(write)
    try:
        os.environ |= {**AFTERPAY, "OPAY_MERCHANT_ID": "1", "OPAY_PRIVATE_KEY_FILE": f"/dev/fd/{read}"}
        source = Source(MODELS)
        assert keys(source.load()) == {"default": "canary"}
        assert source.look(settle=True) is None
        assert source.faults == ()
    finally:
        os.close(read)


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, 50), ({"rate_limit": "100/s"}, 100), ({"rate_limit": "30/m"}, 0.5), ({"rate_limit": None}, None)],
)
def test_the_rate_limit_of_an_account_wins_over_its_providers(
    environment: Environment, own: dict[str, Any], expected: float | None
) -> None:
    path = environment.file("accounts", accounts("canary", **own))
    found: Any = environment.load(**OPAY, OPAY_RATE_LIMIT="50/s", PROVIDER_ACCOUNTS_FILE=path).accounts["opay"]
    assert (found["default"].rate_limit, found["shop"].rate_limit) == (50, expected)
