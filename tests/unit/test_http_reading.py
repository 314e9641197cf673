"""Answers as they are written out there: what every HTTP library reads is read, and nothing is waited for in vain."""

import http.client

import pytest

from tasks.http.reading import AnswerReader, NotHttpError

LIMIT = 1000
HEAD = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
OK = HEAD + TWO + b"\r\nok"
CHUNKS = b"2\r\nok\r\n0\r\n\r\n"


def read(data: bytes, step: int | None = None, method: str = "GET") -> AnswerReader:
    reader = AnswerReader()
    reader.expect(method, LIMIT)
    step = step or len(data)
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    return reader


READ = {
    "a chunked coding twice": HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + CHUNKS,
    "a chunked coding twice in one line": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
    "capitals": HEAD + b"TRANSFER-ENCODING: Chunked\r\n\r\n" + CHUNKS,
    "identity, then chunked": HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKS,
    "chunked, then identity": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS,
    "chunked with a parameter": HEAD + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + CHUNKS,
    "identity and a length": HEAD + b"Transfer-Encoding: identity\r\n" + TWO + b"\r\nok",
    "no coding and a length": HEAD + b"Transfer-Encoding:\r\n" + TWO + b"\r\nok",
    "chunked and a length": HEAD + b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "the same length twice": HEAD + TWO + TWO + b"\r\nok",
    "the same length twice in one line": HEAD + b"Content-Length: 2, 2\r\n\r\nok",
    "spaces around a length": HEAD + b"Content-Length:  2 \r\n\r\nok",
    "a thousand headers": HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + TWO + b"\r\nok",
    "a header of 100 kB": HEAD + b"X-Filler: " + b"x" * 100_000 + b"\r\n" + TWO + b"\r\nok",
    "a folded header": HEAD + b"X-A: a\r\n\tb\r\n  c\r\n" + TWO + b"\r\nok",
    "a folded length": HEAD + b"Content-Length:\r\n 2\r\n\r\nok",
    "a fold of nothing": HEAD + b" folded\r\n" + TWO + b"\r\nok",
    "line feeds alone": OK.replace(b"\r\n", b"\n"),
    "line feeds alone in places": HEAD + b"X-A: b\n" + TWO + b"\nok",
    "no colon": HEAD + b"no colon\r\n" + TWO + b"\r\nok",
    "no name": HEAD + b": no name\r\n" + TWO + b"\r\nok",
    "a space before the colon": HEAD + b"X-A : b\r\nContent-Length : 2\r\n\r\nok",
    "a name that is none": HEAD + "X(é): b\r\n".encode() + TWO + b"\r\nok",
    "control characters": HEAD + b"X-A: \x00\x01\x7f\xff\r\n" + TWO + b"\r\nok",
    "a carriage return in a header": HEAD + b"X-A: a\rb\r\n" + TWO + b"\r\nok",
    "no reason": b"HTTP/1.1 200\r\n" + TWO + b"\r\nok",
    "two spaces before the status": b"HTTP/1.1  200 OK\r\n" + TWO + b"\r\nok",
    "small letters": b"http/1.1 200 ok\r\n" + TWO + b"\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + TWO + b"\r\nok",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n" + TWO + b"\r\nok",
    "an upgrade on offer": HEAD + b"Connection: Upgrade\r\nUpgrade: h2,h2c\r\n" + TWO + b"\r\nok",
    "Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "Early Hints, then a head that is odd": b"HTTP/1.1 103 Hm\r\nLink: x\r\n\r\n" + HEAD + TWO + TWO + b"\r\nok",
    "Continue that closes": b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + OK,
    "chunk extensions": HEAD + b'Transfer-Encoding: chunked\r\n\r\n2;a="b;c"\r\nok\r\n0;x\r\n\r\n',
    "spaces after a chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2  \r\nok\r\n0\r\n\r\n",
    "zeros before a chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0002\r\nok\r\n000\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("what", READ)
@pytest.mark.parametrize("step", [None, 1, 7])
def test_an_answer_is_read_to_its_end_as_soon_as_it_is_there(what: str, step: int | None) -> None:
    data = READ[what]
    if step == 1 and len(data) > 2000:
        step = 100
    reader = read(data, step)
    assert (reader.complete, reader.status, reader.body()) == (True, 200, b"ok")
    assert "content-encoding" not in reader.headers


def test_headers_of_one_name_come_together_and_folded_ones_in_one_line() -> None:
    reader = read(HEAD + b"X-A: a\r\n b\r\nx-a: c\r\nRetry-After: 5\r\n" + TWO + b"\r\nok")
    assert {**reader.headers, "x-a": " ".join(reader.headers["x-a"].split())} == {
        "x-a": "a b, c",
        "retry-after": "5",
        "content-length": "2",
    }


@pytest.mark.parametrize(
    ("answer", "keep"),
    [
        (OK, True),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + TWO + b"\r\nok", True),
        (b"HTTP/1.0 200 OK\r\n" + TWO + b"\r\nok", False),
        (HEAD + b"Connection: Close\r\n" + TWO + b"\r\nok", False),
        (HEAD + b"Connection: keep-alive, close\r\n" + TWO + b"\r\nok", False),
        (HEAD + TWO + TWO + b"\r\nok", False),
    ],
)
def test_a_connection_is_kept_after_an_answer_that_leaves_no_doubt(answer: bytes, keep: bool) -> None:
    reader = read(answer)
    assert (reader.complete, reader.keep) == (True, keep)


@pytest.mark.parametrize("left", [b"x", b"\0", b"\r\n", b"HTT", OK, b"ok", b"\r\n\r\n" + OK])
@pytest.mark.parametrize(
    "answer", [OK, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, HEAD + b"Content-Length: 0\r\n\r\n"]
)
def test_bytes_left_over_condemn_a_connection_and_spoil_no_answer(answer: bytes, left: bytes) -> None:
    whole, more = read(answer), read(answer + left)
    assert (more.complete, more.status, more.body()) == (True, 200, whole.body())
    assert (whole.keep, more.keep) == (True, False)


def test_the_next_answer_on_a_connection_is_read_as_the_first() -> None:
    reader = read(OK)
    for answer in (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, b"HTTP/1.1 204 No\r\n\r\n", OK):
        reader.expect("GET", LIMIT)
        reader.feed(answer)
        assert reader.complete
    assert (reader.status, reader.body(), reader.headers, reader.keep) == (200, b"ok", {"content-length": "2"}, True)


def test_an_answer_to_head_ends_with_its_headers() -> None:
    reader = read(HEAD + TWO + b"\r\n", method="HEAD")
    assert (reader.complete, reader.body(), reader.keep) == (True, b"", False)


@pytest.mark.parametrize("headers", [b"", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: identity\r\n"])
def test_a_body_without_a_length_ends_where_the_server_closes(headers: bytes) -> None:
    reader = read(HEAD + headers + b"\r\nok")
    assert not reader.complete
    reader.end()
    assert (reader.complete, reader.body(), reader.keep) == (True, b"ok", False)


REFUSED = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n" + TWO + b"\r\nok",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a length in words": HEAD + b"Content-Length: two\r\n\r\nok",
    "a length below nothing": HEAD + b"Content-Length: -2\r\n\r\nok",
    "no length where there should be one": HEAD + b"Content-Length:\r\n\r\nok",
    "a length with a sign": HEAD + b"Content-Length: +2\r\n\r\nok",
    "a length past counting": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nok",
    "two lengths": HEAD + TWO + b"Content-Length: 3\r\n\r\nokk",
    "two lengths in one line": HEAD + b"Content-Length: 2, 3\r\n\r\nokk",
    "protocols switched": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\0",
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("step", [None, 1])
def test_an_ambiguous_answer_is_refused_at_once(what: str, step: int | None) -> None:
    with pytest.raises(NotHttpError):
        read(REFUSED[what], step)


@pytest.mark.parametrize("chunks", [b"zz\r\nok", b"-2\r\nok", b"2\r\nokx", b"fffffffffffffffff\r\nok", b"0x2\r\nok"])
def test_a_body_that_breaks_is_told_at_once_and_leaves_its_status(chunks: bytes) -> None:
    reader = AnswerReader()
    reader.expect("GET", LIMIT)
    with pytest.raises(http.client.IncompleteRead):
        reader.feed(b"HTTP/1.1 503 Hm\r\nRetry-After: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (reader.status, reader.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    "endless",
    [
        HEAD + b"X-A: b\r\n",
        HEAD + b"no colon\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b",
    ],
)
def test_everything_but_the_body_has_a_bound_in_bytes(endless: bytes) -> None:
    reader = read(endless)
    more = endless[-1:] * 1000 if b"chunked" in endless else b"X-A: b\r\n" * 1000

    def feed_on() -> None:
        for _ in range(300):
            reader.feed(more)

    with pytest.raises(NotHttpError):
        feed_on()


def test_no_more_of_a_body_is_kept_than_the_limit() -> None:
    reader = read(HEAD + b"Content-Length: 100000\r\n\r\n" + b" " * LIMIT)
    assert not reader.large
    reader.feed(b" ")
    assert (reader.large, len(reader.body())) == (True, LIMIT)
