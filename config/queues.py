"""Providers × lanes → queues, said once."""

from collections.abc import Iterable

from kombu import Exchange, Queue

from cardtoken.contract import Lane


def queue_name(provider: str, lane: Lane) -> str:
    """The Redis list that holds the lane's messages of a provider."""
    return f"lookup.{provider}.{lane}"


def queues(providers: Iterable[str]) -> list[Queue]:
    """The queues of the providers. Exchanges play no part: a message's queue is the list that it is found in."""
    return [
        Queue(name, Exchange(name), routing_key=name)
        for provider in providers
        for name in (queue_name(provider, lane) for lane in Lane)
    ]
