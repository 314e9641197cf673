"""User and password of a server, which may change while connections to it exist: new ones use the new."""

from typing import Any

from redis.credentials import CredentialProvider


class Login(CredentialProvider):
    """What each new connection logs in with; nothing, where there is no password."""

    def __init__(self, username: str | None, password: str | None) -> None:
        self._arguments = _arguments(username, password)

    def replace(self, username: str | None, password: str | None) -> None:
        """Use these for new connections. Those that exist stay logged in."""
        self._arguments = _arguments(username, password)

    def get_credentials(self) -> Any:
        """Return the arguments of AUTH."""
        return self._arguments

    async def get_credentials_async(self) -> Any:
        """Return the arguments of AUTH."""
        return self._arguments


def _arguments(username: str | None, password: str | None) -> tuple[str, ...]:
    if not username and not password:
        return ()
    return (username, password or "") if username else (password or "",)
