"""Watches which alerts fire, and when."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from sandbox.waiting import until
from soak.prometheus import Labels, Prometheus

#: Seconds that an alert is waited for; and that it has to be away to be over, since a late scrape ends it for a moment.
_PATIENCE: Final = 120.0
_STAYS_AWAY: Final = 1.5
_PAUSE: Final = 0.1


class Watch:
    """Looks all the time, until the end of ``stack``. ``figures`` has what was seen of each alert."""

    def __init__(self, stack: ExitStack, prometheus: Prometheus) -> None:
        self.figures: dict[str, str] = {}
        self._prometheus = prometheus
        self._over = threading.Event()
        self._looked = 0.0
        #: When each alert, by its labels, fired last; replaced and never changed.
        self._fired: dict[frozenset[tuple[str, str]], float] = {}
        self._cured: dict[str, float] = {}
        stack.callback(self._over.set)
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._over.wait(_PAUSE):
            now = time.monotonic()
            firing = self._prometheus.firing()
            if firing is not None:
                self._fired = {**self._fired, **{frozenset(each.items()): now for each in firing}}
                self._looked = now

    def _firing(self) -> list[Labels]:
        return [dict(each) for each, at in self._fired.items() if at >= self._looked]

    def fire(self, *wanted: tuple[str, Labels]) -> list[Labels]:
        """Wait until each of these has fired, at the same time or not; return their labels."""
        begun, seen = time.monotonic(), dict[str, Labels]()

        def look() -> bool | None:
            for alert, labels in wanted:
                which = {"alertname": alert, **labels}.items()
                found = next((each for each in self._firing() if which <= each.items()), None)
                if alert not in seen and found is not None:
                    seen[alert] = found
                    self.figures[alert] = f"fires after {time.monotonic() - begun:.1f} s"
            return True if len(seen) == len(wanted) else None

        def missing() -> str:
            return ", ".join(alert for alert, _ in wanted if alert not in seen) + " does not fire"

        self._await(look, missing)
        return [seen[alert] for alert, _ in wanted]

    def still_fires(self, *fired: Labels) -> None:
        """Wait until all of these fire at once."""
        names = ", ".join(each["alertname"] for each in fired)
        self._await(
            lambda: True if all(each in self._firing() for each in fired) else None,
            lambda: f"not all fire at the time of their commands: {names}",
        )

    def cured(self, fired: Labels) -> None:
        """Note that its command is about to be typed."""
        self._cured[fired["alertname"]] = time.monotonic()

    def clear(self, *fired: Labels) -> None:
        """Wait until each of these is over."""
        for each in fired:
            labels, name = frozenset(each.items()), each["alertname"]
            self._await(lambda: self._is_over(labels), lambda: f"{name} is not over")  # noqa: B023 - called at once
            took = max(0.0, self._fired[labels] - self._cured[name])
            self.figures[name] += f", over {took:.1f} s after its command"

    def quiet(self) -> None:
        """Wait until nothing fires."""
        self._await(lambda: True if all(map(self._is_over, self._fired)) else None, lambda: "it is not quiet")

    def _is_over(self, labels: frozenset[tuple[str, str]]) -> bool | None:
        return True if self._looked - self._fired[labels] > _STAYS_AWAY else None

    def _await(self, look: Callable[[], bool | None], trouble: Callable[[], str]) -> None:
        try:
            until(look, _PATIENCE, _PAUSE)
        except AssertionError as error:
            firing = [" ".join(value for name, value in each.items() if name != "severity") for each in self._firing()]
            raise AssertionError(f"{trouble()}; firing: {', '.join(firing)}") from error
