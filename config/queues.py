"""Providers × lanes → queues."""

from collections.abc import Iterable

from kombu import Exchange, Queue

from cardtoken.contract import Lane
from cardtoken.keys import queue_name


def queues(providers: Iterable[str]) -> list[Queue]:
    """Return the queues of the providers. Exchanges play no part: a message's queue is the list that it is found in."""
    return [
        Queue(name, Exchange(name), routing_key=name)
        for provider in providers
        for name in (queue_name(provider, lane) for lane in Lane)
    ]
