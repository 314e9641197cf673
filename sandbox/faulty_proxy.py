"""A way to a server on loopback that can go wrong: silent, slow, cut, refused, or without its answers."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Final, Self

HOST: Final = "127.0.0.1"
_CHUNK: Final = 1 << 16


class Fault(Enum):
    """What becomes of the bytes of one connection."""

    NONE = auto()
    #: Both ways are read and thrown away, as by a NAT that has forgotten the connection; neither side learns of it.
    SILENT = auto()
    #: What the client sends arrives; the answers do not.
    NO_ANSWERS = auto()


class _Passage:
    """One connection from a client, and the one to the server that belongs to it."""

    def __init__(self, proxy: "FaultyProxy", client: asyncio.StreamWriter, server: asyncio.StreamWriter | None) -> None:
        self._proxy = proxy
        self._writers = [writer for writer in (client, server) if writer is not None]
        self.fault = proxy.fault_of_new
        #: Bytes of answers that still pass before the connection goes silent; None: no such moment is set.
        self.silent_after: int | None = None

    def passed(self, data: bytes, *, answer: bool) -> bytes:
        """The part of these bytes that is to arrive."""
        if self.fault is Fault.SILENT or (answer and self.fault is Fault.NO_ANSWERS):
            return b""
        if answer and self.silent_after is not None:
            data = data[: self.silent_after]
            self.silent_after -= len(data)
            if not self.silent_after:
                self.fault = Fault.SILENT
        return data

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool) -> None:
        while data := await reader.read(_CHUNK):
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            if left := self.passed(data, answer=answer):
                writer.write(left)
                await writer.drain()
        if self.fault is not Fault.NONE:
            await asyncio.Event().wait()  # a silent connection does not report the other side's end either

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


class FaultyProxy:
    """Listens on a free port of 127.0.0.1 and passes connections on to another one, until it is made faulty.

    What is set holds for connections that come; :meth:`silence`, :meth:`lose_answers` and :meth:`cut` are about those
    that are there. Use it in a ``with`` block.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        #: What becomes of connections that are made from now on.
        self.fault_of_new = Fault.NONE
        #: Seconds that each piece of data is late, both ways.
        self.delay = 0.0
        self._passages: set[_Passage] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._on_loop(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many pass data, or would if they were not silent."""
        return len(self._passages)

    def silence(self, *, after: int | None = None) -> int:
        """Let each open connection go silent, at once or ``after`` so many bytes of answers; returns how many."""

        def set_fault(passage: _Passage) -> None:
            if after is None:
                passage.fault = Fault.SILENT
            else:
                passage.silent_after = after

        return self._each(set_fault)

    def lose_answers(self) -> int:
        """Let no more answers arrive on each open connection; returns how many there are."""

        def set_fault(passage: _Passage) -> None:
            passage.fault = Fault.NO_ANSWERS

        return self._each(set_fault)

    def cut(self) -> int:
        """Reset each open connection; returns how many there were."""
        return self._each(_Passage.abort)

    def refuse(self) -> None:
        """Listen no more: connections are refused until :meth:`accept`. Open ones stay."""
        self._on_loop(self._close_server)

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._on_loop(self._listen)

    def _each(self, change: Callable[[_Passage], None]) -> int:
        async def on_loop() -> int:
            passages = list(self._passages)
            for passage in passages:
                change(passage)
            return len(passages)

        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result(10)

    def _on_loop(self, step: Callable[[], Coroutine[None, None, None]]) -> None:
        asyncio.run_coroutine_threadsafe(step(), self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._begin, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        await self._close_server()
        for passage in list(self._passages):
            passage.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: asyncio.StreamWriter | None = None
        answers = asyncio.StreamReader()  # of a connection that is silent from its first moment: none
        passage: _Passage | None = None
        try:
            if self.fault_of_new is not Fault.SILENT:
                answers, server = await asyncio.open_connection(HOST, self.target)
            passage = _Passage(self, writer, server)
            self._passages.add(passage)
            pumps = [
                asyncio.ensure_future(passage.pump(reader, server or writer, answer=False)),
                asyncio.ensure_future(passage.pump(answers, writer, answer=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the server is away: so is this
        finally:
            if passage is not None:
                self._passages.discard(passage)
            for each in (writer, server):
                if each is not None:
                    each.transport.abort()
