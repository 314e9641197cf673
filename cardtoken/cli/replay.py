"""Putting dead letters back on their queues."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cardtoken.cli.one_off_queues import is_one_off
from cardtoken.cli.stream_choice import StreamEntry
from cardtoken.cli.stream_commands import mover
from cardtoken.contract import Lane
from cardtoken.keys import DEAD_LETTERS

if TYPE_CHECKING:
    from redis import Redis

    from cardtoken.message import Request

_LANES: Final = [str(lane) for lane in Lane]


class Replayer:
    """Puts dead letters back on their queues, as messages of one task, provider and lane each."""

    def __init__(self, redis: "Redis", reply_to: str | None, into: Lane | None) -> None:
        self._redis = redis
        self._reply_to = reply_to
        self._into = into
        self._script = mover(redis)
        self.replayed = 0
        #: Why some were left, and which.
        self.left: dict[str, list[str]] = defaultdict(list)

    def replay(self, entries: Sequence[StreamEntry]) -> None:
        """Replay these; those of one message become one message again."""
        groups: dict[tuple[str, str, Lane], list[tuple[str, Request]]] = defaultdict(list)
        for entry in entries:
            prepared = self._prepared(entry)
            if prepared is not None:
                lane = self._into or Lane(entry["lane"])
                groups[entry["task_id"], prepared.provider, lane].append((entry.id, prepared))
        for (task_id, _, lane), letters in groups.items():
            self._send(task_id, lane, letters)

    def _prepared(self, entry: StreamEntry) -> "Request | None":
        from cardtoken.errors import InvalidRequestError
        from cardtoken.message import prepared

        request = {
            name: value for name, value in parsed(entry["request"]).items() if name not in {"deadline", "requested_at"}
        }
        request["lookup_id"] = entry["lookup_id"]
        if self._reply_to and is_one_off(request):
            request["reply_to"] = self._reply_to
        try:
            made = prepared(request, datetime.now(UTC))
        except InvalidRequestError as error:
            self.left[str(error)].append(entry.id)
            return None
        if made.provider != entry["provider"] or entry["lane"] not in _LANES:
            self.left["its request is not one of its provider and lane"].append(entry.id)
            return None
        return made

    def _send(self, task_id: str, lane: Lane, letters: "list[tuple[str, Request]]") -> None:
        from cardtoken.message import Cutter

        cutter, waiting = Cutter(lane, replay_of=task_id), list(letters)
        messages = [message for _, request in letters if (message := cutter.add(request)) is not None]
        for message in [*messages, *cutter.rest()]:
            mine, waiting = waiting[: message.count], waiting[message.count :]
            ids = [name for name, _ in mine]
            gone: Any = self._script(keys=[DEAD_LETTERS, message.queue], args=[message.entry, *ids])
            if not gone:
                self.replayed += len(ids)
                continue
            missing = {each.decode() for each in gone}
            self.left["another command replayed or discarded it meanwhile"] += sorted(missing)
            self._send(task_id, lane, [letter for letter in mine if letter[0] not in missing])


def parsed(text: str) -> dict[str, Any]:
    """Return the object of a field; an empty one where the field does not hold any."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
