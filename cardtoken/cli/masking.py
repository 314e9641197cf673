"""Card tokens as a command shows them."""


def masked(reference: str) -> str:
    """The last four characters of a token, and none of one that is hardly longer."""
    return f"…{reference[-4:]}" if len(reference) > 8 else "…"
