"""Values that cannot be printed.

Both types are pydantic's ``SecretStr`` underneath: ``str()``, ``repr()``, ``%s``, f-strings, tracebacks that show
values and JSON dumps all give the mask. ``get_secret_value()`` is the one way to the text, and easy to search for.
"""

from pydantic import SecretStr

#: A token shorter than this shows nothing at all: four characters would be too much of it.
_SHORTEST_SHOWN = 12


class Secret(SecretStr):
    """A private key, a client secret, an access token: nothing of it is ever shown."""


class CardToken(SecretStr):
    """A card token, or the reference that leads to one: at most its last four characters are shown."""

    def _display(self) -> str:
        value = self.get_secret_value()
        return f"****{value[-4:]}" if len(value) >= _SHORTEST_SHOWN else "****"
