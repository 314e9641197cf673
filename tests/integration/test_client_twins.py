"""Both clients behind one face, for tests to run on each; and that they are twins."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pytest

import cardtoken
from cardtoken import AsyncClient, Client, LookupResult
from cardtoken.async_client import AsyncResults
from cardtoken.client import Results


class AsyncTwin:
    """``AsyncClient`` with the face of ``Client``: its event loop runs on a thread of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.client: AsyncClient = self.run(self._make(*args, **options))

    async def _make(self, *args: Any, **options: Any) -> AsyncClient:
        return AsyncClient(*args, **options)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def enqueue(self, *args: Any, **options: Any) -> Any:
        return self.run(self.client.enqueue(*args, **options))

    def enqueue_many(self, *args: Any, **options: Any) -> Any:
        return self.run(self.client.enqueue_many(*args, **options))

    def lookup(self, *args: Any, **options: Any) -> Any:
        return self.run(self.client.lookup(*args, **options))

    def results(self, *args: Any, **options: Any) -> "TwinResults":
        return TwinResults(self.client.results(*args, **options), self.run)

    def close(self) -> None:
        """Close the client; the loop goes on for what is to say so."""
        self.run(self.client.close())

    def end(self) -> None:
        """As ``asyncio.run`` ends: loops that were left open are closed first."""
        self.run(self._rest())
        self.close()
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @staticmethod
    async def _rest() -> None:
        """Until nothing runs any more: a generator that is not referenced any longer is closed by a task of its own."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, pending = await asyncio.wait(others, timeout=10)
            assert not pending, pending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TwinResults(Iterator[LookupResult]):
    """``AsyncResults`` with the face of ``Results``."""

    def __init__(self, results: AsyncResults, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._results = results
        self._run = run

    async def _next(self) -> LookupResult | None:
        async for result in self._results:
            return result
        return None

    def __next__(self) -> LookupResult:
        result: LookupResult | None = self._run(self._next())
        if result is None:
            raise StopIteration
        return result

    def __enter__(self) -> Self:
        self._run(self._results.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self._results.__aexit__(kind, error, traceback))


Either = Client | AsyncTwin
Make = Callable[..., Either]
KINDS: list[type[Client] | type[AsyncTwin]] = [Client, AsyncTwin]


def closing(made: list[Either]) -> None:
    """End clients that tests made."""
    for client in made:
        with suppress(RuntimeError):
            client.end() if isinstance(client, AsyncTwin) else client.close()


@pytest.mark.parametrize("pair", [(Client, AsyncClient), (Results, AsyncResults)], ids=["client", "results"])
def test_the_twins_have_the_same_methods_and_parameters(pair: tuple[type, type]) -> None:
    plain, twin = ({name: method for name, method in vars(kind).items() if not name.startswith("_")} for kind in pair)
    assert plain.keys() == twin.keys()
    for name in plain:
        parameters = [inspect.signature(methods[name]).parameters for methods in (plain, twin)]
        assert [(p.name, p.kind, p.default) for p in parameters[0].values()] == [
            (p.name, p.kind, p.default) for p in parameters[1].values()
        ]
        assert inspect.getdoc(twin[name])


def test_all_that_the_package_names_is_there() -> None:
    for name in cardtoken.__all__:
        assert getattr(cardtoken, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cardtoken.nothing  # noqa: B018 - that is the test
