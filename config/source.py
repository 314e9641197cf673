"""Where the configuration of a process comes from: variables as they were at its start, and files as they are now."""

import threading
import time
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from cardtoken.redis_url import parse_url
from config.environment import DOTENV, variables
from config.errors import ConfigurationError, Fault
from config.files import Content, is_regular, read, read_again
from config.settings import Configuration, file_variables, read_configuration

#: Seconds between two looks that find the same, after which a file is not one that is being written.
SETTLE_SECONDS: Final = 0.2


class Source:
    """The configuration of a process, and what becomes of it when a file with secrets changes.

    ``account_models`` maps a provider's name to the model of its accounts. A file that cannot be taken up leaves what
    it said before in force; ``faults`` says why. Other files that changed are taken up all the same.
    """

    def __init__(self, account_models: Mapping[str, type[BaseModel]]) -> None:
        self._models = account_models
        self._given: dict[str, str] = {}
        self._watched: dict[str, str] = {}
        self._lock = threading.Lock()
        #: By variable: what was taken up, what was found last, and what was last found twice and judged.
        self._taken: dict[str, Content] = {}
        self._seen: dict[str, Content] = {}
        self._judged: dict[str, Content] = {}
        self._current: Configuration | None = None
        self.faults: tuple[Fault, ...] = ()

    def load(self) -> Configuration:
        """Read and check everything. Raises :class:`ConfigurationError` with all faults at once."""
        try:
            self._given = variables()
        except UnicodeDecodeError:
            raise ConfigurationError([Fault(DOTENV, "is not UTF-8 text", "save it as UTF-8")]) from None
        named = {name: self._given[name] for name in file_variables(self._models) if name in self._given}
        # A pipe can be read once.
        self._watched = {name: path for name, path in named.items() if is_regular(path)}
        self._taken = {name: read(path) for name, path in named.items()}
        self._seen = self._judged = {name: self._taken[name] for name in self._watched}
        self._current = read_configuration(self._models, dict(self._given), self._taken)
        return self._current

    def look(self, *, settle: bool = False) -> Configuration | None:
        """Return the configuration if a file changed and was taken up, else None.

        What a file says counts once two looks have found the same: it may be in the middle of being written.
        ``settle``: look twice now, if the first look finds a change.
        """
        with self._lock:
            found = self._look()
            if settle and found != self._judged:
                time.sleep(SETTLE_SECONDS)
                self._seen, found = found, self._look()
            settled, self._seen = found == self._seen, found
            return self._judge(found) if settled and found != self._judged else None

    def _look(self) -> dict[str, Content]:
        return {name: read_again(path) for name, path in self._watched.items()}

    def _judge(self, found: dict[str, Content]) -> Configuration | None:
        """Take up what changed: all of it, or each file by itself where one cannot be taken up."""
        self._judged = found
        changed = {name: content for name, content in found.items() if content != self._taken[name]}
        faults: list[Fault] = []
        accepted: Configuration | None = None
        together: list[Mapping[str, Content]] = [changed] if changed else []
        one_by_one: list[Mapping[str, Content]] = [{name: changed[name]} for name in changed]
        for attempts in (together, one_by_one):
            faults = []
            for attempt in attempts:
                contents = {**self._taken, **attempt}
                try:
                    accepted = self._accepted(contents)
                except ConfigurationError as error:
                    faults += error.faults
                else:
                    self._taken, self._current = contents, accepted
            if not faults:
                break
        self.faults = tuple(faults)
        return accepted

    def _accepted(self, contents: Mapping[str, Content]) -> Configuration:
        """Return the configuration with these contents. Raises ConfigurationError for what cannot be taken up."""
        found = read_configuration(self._models, dict(self._given), contents)
        if self._current is not None and (faults := _needs_restart(self._current, found)):
            raise ConfigurationError(faults)
        return found


def _needs_restart(old: Configuration, new: Configuration) -> list[Fault]:
    """Return a fault for each change that a process cannot take up while it runs."""
    faults = []
    if _server(old) != _server(new):
        fix = "restart the workers, or keep all of it but user and password"
        faults.append(Fault("REDIS_URL_FILE", "names another server", fix))
    # An empty file is more often a mistake than a wish, and each lookup of the provider would end as invalid_request.
    for provider in old.accounts.keys() - new.accounts.keys():
        fix = "restart the workers without it, or leave it one"
        faults.append(Fault("PROVIDER_ACCOUNTS_FILE", f"leaves {provider} without an account", fix))
    return faults


def _server(configuration: Configuration) -> tuple[object, ...]:
    url = parse_url(configuration.settings.redis_url.get_secret_value())
    return url.scheme, url.hosts, url.db
