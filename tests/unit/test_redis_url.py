"""One meaning of a URL for every part, and the same for a Celery producer: kombu reads each host by itself."""

from urllib.parse import quote

import pytest
from kombu import Connection

from cardtoken.connection import Endpoint
from cardtoken.redis_url import SCHEMES, parse_url

PASSWORD = "p@ss/w:rd;%"
LOGIN = f"user:{quote(PASSWORD, safe='')}@"

#: URLs, and the database that they name.
ACCEPTED = {
    "redis://h": 0,
    "redis://h:1/": 0,
    "redis://h:1/3": 3,
    "rediss://h/7": 7,
    f"redis://{LOGIN}h:1/2": 2,
    "sentinel://a": 0,
    "sentinel://a/2": 2,
    "sentinel://a;sentinel://b": 0,
    "sentinel://a;sentinel://b/0": 0,
    "sentinel://a:1/2;sentinel://b:2/2;sentinel://c/2": 2,
    "sentinel://a/2;sentinel://b": 2,
    f"sentinel://{LOGIN}a/2;sentinel://{LOGIN}b/2": 2,
    f"sentinel://{LOGIN}a;sentinel://b/0": 0,
}


@pytest.mark.parametrize("url", ACCEPTED)
def test_a_url_leads_where_kombu_goes_with_it_whichever_host_has_its_turn(url: str) -> None:
    parsed = parse_url(url, SCHEMES)
    assert parsed.db == ACCEPTED[url]
    ssl = {"ssl_cert_reqs": "required"} if url.startswith("rediss") else False
    connection = Connection(url, ssl=ssl)
    assert (connection.userid, connection.password) == (parsed.username, parsed.password)
    for _ in range(2 * len(parsed.hosts)):
        assert int((connection.virtual_host or "0").strip("/") or 0) == parsed.db
        connection.maybe_switch_next()
    if LOGIN in url:
        assert (parsed.username, parsed.password) == ("user", PASSWORD)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sentinel://a;sentinel://b/2", "sentinel://HOST:26379/2;sentinel://HOST:26379/2"),
        ("sentinel://a:1;sentinel://b:2;sentinel://c:3/15", "sentinel://HOST:26379/15;sentinel://HOST:26379/15"),
        ("sentinel://a/0;sentinel://b/2", "names several databases"),
        ("sentinel://a/2;sentinel://b/0", "names several databases"),
        ("sentinel://a/2;sentinel://b/3", "sentinel://HOST:26379/N;sentinel://HOST:26379/N"),
        ("sentinel://a;sentinel://:canary@b/0", "the same ones in front of every host"),
        ("sentinel://:canary@a;sentinel://:other@b", "the same ones in front of every host"),
        ("redis://a;redis://b/0", "one server"),
        ("sentinel://a;redis://b/0", "one server"),
        ("sentinel://a;", "must begin with one of"),
        ("sentinel://a,b", "; between hosts"),
        ("sentinel://a:1,b:2/0", "; between hosts"),
        ("redis://h//2", "number of a database"),
        ("redis://h/2/", "number of a database"),
        ("redis://h/two", "number of a database"),
        ("redis://h/0?db=2", "nothing behind the database's number"),
        ("sentinel://a/0?master_name=canary", "nothing behind the database's number"),
        ("sentinel://a/0?x=1;sentinel://b/0", "nothing behind the database's number"),
        ("redis://:canary/x@h/0", None),
    ],
)
def test_a_url_that_kombu_reads_otherwise_is_refused_with_the_right_form(url: str, said: str | None) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_url(url, SCHEMES)
    assert "canary" not in str(raised.value)
    if said is not None:
        assert said in str(raised.value)


def test_messages_name_the_hosts_and_no_login() -> None:
    endpoint = Endpoint(
        f"sentinel://{LOGIN}a:1/2;sentinel://{LOGIN}b/2", sentinel_master="m", sentinel_password="canary"
    )
    assert endpoint.where == "a:1;b:26379"
    assert "user" not in repr(endpoint)
    assert "canary" not in repr(endpoint)
