"""Scripts in Lua, each with the prefixes of the keys that it puts together itself."""

from functools import cache
from importlib.resources import files

from cardtoken.keys import PREFIXES

_PREFIXES = "".join(f"local {name} = '{prefix}'\n" for name, prefix in PREFIXES.items())


@cache
def source(package: str, *names: str) -> str:
    """Return the text of a script: these files of a package, one after the other."""
    parts = [files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names]
    return "".join([_PREFIXES, *parts])
