"""Reads answers in HTTP/1.1: llhttp does, told to be as lenient as HTTP libraries are.

llhttp is strict where curl, Go and http.client are not: about a length that is said twice, about lines that are no
header, about words beside ``chunked``. A head that it refuses is shown to it once more, with these put right.
"""

import http.client
import re
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from tasks.http.messages import HttpResponse

#: Bytes of all that is not body: status line, headers, chunk sizes, trailers.
LARGEST_HEAD: Final = 1 << 18
#: Chunks of one byte have a frame of five.
_FRAME = 8
_START = re.compile(rb"[\r\n]*HTTP/1\.[0-9][ \t]+([1-9][0-9][0-9])(?![0-9])", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*(.*)", re.DOTALL)
_FOLD = re.compile(rb"\r?\n[ \t]+")


class NotHttpError(Exception):
    """What a server sent cannot be read as HTTP/1.1."""


class AnswerReader:
    """Reads the answers that come on one connection, one after the other.

    ``status`` is None until a head is read; ``complete`` says that the answer is read to its end, ``large`` that its
    body has more bytes than allowed, ``keep`` that the connection is good for another request.
    """

    def __init__(self) -> None:
        self._parser = self._new_parser()
        self.expect("GET", 0)

    def expect(self, method: str, limit: int) -> None:
        """Begin with the next answer, to a request of this method, of whose body ``limit`` bytes are read."""
        self._method = method
        self._limit = limit
        self._head = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._frame = 0
        self._refused = self._restated = self._until_close = False
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.complete = self.large = self.keep = self._left_over = False

    def body(self) -> bytes:
        """The body as far as it is read."""
        return b"".join(self._pieces)

    def answer(self, *, body: bool = True) -> HttpResponse:
        """The answer whose head is read, with its body or without."""
        return HttpResponse(self.status or 0, self.headers, self.body() if body else b"")

    def feed(self, data: bytes) -> None:
        """Take what came, which is not empty. Raises NotHttpError, and IncompleteRead for a body that is broken."""
        if self.status is None:
            self._head = self._head + data if self._head else data
            if len(self._head) > LARGEST_HEAD:
                raise NotHttpError("a head without end")
        if self._refused:
            self._restate()
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            self._parse(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.complete:
                # What follows an answer is none of this request's.
                self._left_over = True
            elif self.status is None and not self._restated:
                self._refused = True
                self._restate()
            elif self.status is None:
                raise NotHttpError("refused") from error
            else:
                raise http.client.IncompleteRead(b"") from error
        if self._left_over:
            self.keep = False

    def end(self) -> None:
        """The server has closed the connection. Raises an error where the answer is not complete without more."""
        if self._refused:
            raise NotHttpError("refused")
        if self.status is None:
            raise ConnectionError("closed without an answer")
        if not self._until_close:
            raise http.client.IncompleteRead(b"")
        self.complete = True

    # --- what llhttp calls

    def on_message_begin(self) -> None:
        """Not the second answer to one request."""
        self._left_over = self.complete
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which no answer here needs."""
        if self.status is None:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is read."""
        parser = self._parser
        status = parser.get_status_code()
        if self.complete or 100 <= status < 200:
            return
        if status < 100 or not parser.get_http_version().startswith("1."):
            raise NotHttpError("no status of HTTP/1.1")
        headers = _joined(self._fields)
        coding = headers.get("transfer-encoding", "").lower()
        if coding not in {"", "chunked"} and not self._restated:
            raise NotHttpError("words beside chunked")
        self.status = status
        self.headers = headers
        self._until_close = coding != "chunked" and "content-length" not in headers
        if self._method == "HEAD":
            self.complete = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body, or of what follows the answer."""
        if self.complete:
            return
        self._size += len(data)
        if self._size > self._limit:
            self.large = True
        else:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """An answer is read, or one that only comes before it."""
        if self.status is not None and not self.complete:
            self.complete = True
            # That an answer was unusual is reason enough not to ask for another here.
            self.keep = self._parser.should_keep_alive() and not self._restated

    # ---

    def _new_parser(self) -> HttpResponseParser:
        parser = HttpResponseParser(self)
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_keep_alive=True,
            lenient_transfer_encoding=True,
            lenient_version=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        return parser

    def _parse(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self.status is None:
            self._head = _after_informational(self._head)
            return
        if not self.complete:
            self._frame += len(data)
            if self._frame > LARGEST_HEAD + len(self._head) + _FRAME * self._size:
                raise NotHttpError("chunk sizes without end")
        elif not self._left_over:
            # llhttp passes over empty lines before an answer; here they come after one.
            self._left_over = data.endswith(b"\r\n\r\n\r\n") or (
                bool(self._pieces) and "content-length" in self.headers and not data.endswith(self._pieces[-1])
            )

    def _restate(self) -> None:
        """Show a head once more, as soon as all of it is there."""
        head = _after_informational(self._head)
        start = _START.match(head)
        if start is None:
            if _may_become_a_start(head):
                return
            raise NotHttpError("no status line")
        end = _BLANK_LINE.search(head, start.end())
        if end is None:
            return
        self._refused, self._restated = False, True
        self._fields = []
        self._parser = self._new_parser()
        self._read(_restated(start[1], head[start.end() : end.start()]) + head[end.end() :])


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their names in lower case; of one that came more than once all values, with commas."""
    headers: dict[str, str] = {}
    for raw, value in fields:
        name, text = raw.decode("iso-8859-1").lower(), value.decode("iso-8859-1").strip()
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _after_informational(head: bytes) -> bytes:
    """What follows the answers that only come before the answer (1xx)."""
    while (start := _START.match(head)) and start[1][:1] == b"1" and (end := _BLANK_LINE.search(head, start.end())):
        head = head[end.end() :]
    return head


def _may_become_a_start(head: bytes) -> bool:
    return 0 < len(head) < 32 and b"\n" not in head and b"http/1.".startswith(head[:7].lower())


def _restated(status: bytes, lines: bytes) -> bytes:
    """A head with one length at most, in words that llhttp takes. Raises NotHttpError where it has no one meaning."""
    _, _, lines = _FOLD.sub(b" ", lines).partition(b"\n")
    kept = []
    lengths: set[bytes] = set()
    codings: list[bytes] = []
    for line in lines.split(b"\n"):
        header = _HEADER.fullmatch(line.rstrip(b"\r"))
        if header is None:
            continue
        name, values = header[1].lower(), [value.strip().lower() for value in header[2].split(b",")]
        if name == b"content-length":
            lengths.update(values)
        elif name == b"transfer-encoding":
            codings += [value.partition(b";")[0].strip(b' \t"') for value in values]
        else:
            kept.append(b"%s: %s" % (header[1], header[2].replace(b"\r", b" ")))
    if b"chunked" in codings:
        kept.append(b"Transfer-Encoding: chunked")
    elif lengths:
        if len(lengths) != 1 or not (length := lengths.pop()).isdigit():
            raise NotHttpError("no one length")
        kept.append(b"Content-Length: " + length)
    return b"\r\n".join([b"HTTP/1.1 %s " % status, *kept, b"", b""])
