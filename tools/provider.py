"""``make provider NAME=acme``: a running start for a new provider.

Written are its request model and line in ``cardtoken/providers.py``, an adapter, a simulator with its line, their
tests, its settings and queues in the deployment files, and the contract's documents. All tests pass then; what is
between them is made up, to be replaced by what the provider's pages say. See docs/adding-a-provider.md.
"""

import argparse
import keyword
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cardtoken.contract import Lane
from cardtoken.providers import PROVIDERS
from config.settings import Settings

ROOT: Final = Path(__file__).parent.parent
_TEMPLATES: Final = Path(__file__).parent / "templates"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
#: Longer ones make lines of the templates too long.
_LONGEST: Final = 16


class ScaffoldError(Exception):
    """Nothing was written; the text says why and what to do."""


def check_name(name: str, root: Path = ROOT) -> None:
    """Raise ScaffoldError for a name that a new provider cannot have."""
    if not name:
        raise ScaffoldError("the name is missing, as in: make provider NAME=acme")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise ScaffoldError(
            f"{name!r} cannot be a provider's name. It becomes part of queues, variables and modules: at most "
            f"{_LONGEST} lowercase letters, digits and single underscores, a letter first, such as acme or acme_pay"
        )
    if name in PROVIDERS:
        raise ScaffoldError(f"the provider {name} exists already; there are {', '.join(PROVIDERS)}")
    for path in _HOMES.values():
        if (root / (file := path.format(name))).exists():
            raise ScaffoldError(f"{file} exists already; choose another name, such as {name}_pay")
    class_name = _class(name)
    written = "".join((root / path).read_text(encoding="utf-8") for path in (_CONTRACT, _SIMULATORS))
    written += re.sub(r"Acme\w*", "", "".join(map(_template, _HOMES)))
    if keyword.iskeyword(name) or re.search(rf"\b{class_name}(Request|Account)?\b", written):
        raise ScaffoldError(f"{name} means something else already; choose another name, such as {name}_pay")
    if fields := [field for field in Settings.model_fields if field.startswith(f"{name}_")]:
        raise ScaffoldError(f"{name}'s variables could not be told from {fields[0].upper()}; choose another name")
    for other in PROVIDERS:
        if other.startswith(f"{name}_") or name.startswith(f"{other}_"):
            raise ScaffoldError(f"{name}'s variables could not be told from those of {other}; choose another name")


def scaffold(name: str, root: Path = ROOT) -> list[Path]:
    """Write the files of a new provider below ``root``; return those that are new or changed.

    Raises ScaffoldError, before anything is written.
    """
    check_name(name, root)
    files = {path.format(name): _rendered(_template(template), name) for template, path in _HOMES.items()}
    files |= {path: _edited(path, (root / path).read_text(encoding="utf-8"), name) for path in _EDITS}
    for path, text in files.items():
        (root / path).write_text(text, encoding="utf-8")
    return [root / path for path in files]


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _rendered(text: str, name: str) -> str:
    """Return the text of a template, which is about a provider called acme, for another one."""
    title = " ".join(part.capitalize() for part in name.split("_"))
    text = text.replace("acme.example", f"{name.replace('_', '-')}.example")
    text = text.replace("acme", name).replace("ACME", name.upper())
    text = re.sub(r"\bAcme(?=[A-Z(,]|$)", _class(name), text, flags=re.MULTILINE)
    return text.replace("Acme", title)


def _edited(path: str, text: str, name: str) -> str:
    """Return the text of a file with what a provider adds to it, each after the place that its pattern finds."""
    for pattern, addition in _EDITS[path]:
        found = re.search(pattern, text, re.DOTALL | re.MULTILINE)
        if found is None:
            raise ScaffoldError(f"{path} is not as expected, nothing in it matches {pattern}; nothing was written")
        text = text[: found.end()] + _rendered(addition, name) + text[found.end() :]
    return text


_CONTRACT: Final = "cardtoken/providers.py"
_SIMULATORS: Final = "simulator/app.py"
#: Template → the module that is made of it.
_HOMES: Final[Mapping[str, str]] = {
    "adapter.py.txt": "tasks/providers/{}.py",
    "simulator.py.txt": "simulator/{}.py",
    "test.py.txt": "tests/unit/test_{}.py",
}
_KUBERNETES: Final = "deploy/kubernetes"
_TRIGGER: Final = """    - type: redis
      name: acme{}
      metadata: {{listName: {}, listLength: "{}"}}
      authenticationRef: {{name: cardtoken-scaler}}
"""
_QUEUES: Final = [(rf"\$\{{{lane.upper()}_QUEUES:-[^}}]*", f",lookup.acme.{lane}") for lane in Lane]
#: What a provider adds to files that are there: after which place, and what.
_EDITS: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    _CONTRACT: [
        (r"(?=^@dataclass)", _template("contract.py.txt") + "\n\n"),
        (r"^_ALL: .*?\n(?=\)\n)", '    ProviderContract("acme", "Acme", AcmeRequest, "Acme\'s card token"),\n'),
    ],
    _SIMULATORS: [
        (r"(?=^from simulator\.)", "from simulator.acme import Acme\n"),
        (r"^PROVIDERS: .*?\n(?=\)\n)", "    Acme,\n"),
    ],
    ".env.example": [
        (r"(?=^# Further accounts)", _template("environment.txt") + "\n"),
        (r".*^\w+_RATE_LIMIT=\n", "ACME_RATE_LIMIT=\n"),
        (r".*^\w+_NOT_FOUND_GRACE=0\n", "ACME_NOT_FOUND_GRACE=0\n"),
    ],
    "Procfile": _QUEUES,
    "docker-compose.yml": _QUEUES,
    **{f"{_KUBERNETES}/base/{lane}.yaml": [(rf'-Q, "lookup[^"]*[.]{lane}', f",lookup.acme.{lane}")] for lane in Lane},
    **{f"deploy/systemd/{lane}.env": [(r"^LOOKUP_QUEUES=[^\n]*", f",lookup.acme.{lane}")] for lane in Lane},
    f"{_KUBERNETES}/components/keda/interactive.yaml": [
        (r"\Z", _TRIGGER.format("", "lookup.acme.interactive", 50)),
    ],
    f"{_KUBERNETES}/components/keda/bulk.yaml": [
        (r"\Z", _TRIGGER.format("", "lookup.acme.bulk", 50_000)),
        (r"\Z", _TRIGGER.format("-delayed", '"lookup:delayed:lookup.acme.bulk"', 50_000)),
    ],
    # The map of the modules.
    "docs/architecture.md": [(r"^    provider\.py  [^\n]*\n", "    acme.py               Acme\n")],
    "pyproject.toml": [(r'^modules = \["tasks\.providers\.[^\]]*(?=\])', ', "tasks.providers.acme"')],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 for a name that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="make provider",
        usage="make provider NAME=acme",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", default="", help="at most 16 lowercase letters, digits and underscores")
    name = parser.parse_args(argv).name
    try:
        written = scaffold(name)
    except ScaffoldError as error:
        sys.stderr.write(f"provider: {error}\n")
        return 2
    modules = [str(path) for path in written if path.suffix == ".py"]
    # Imports in their order, and long lines broken: both depend on the name. The documents are written by a process of
    # its own, which knows the new provider.
    for command in (
        ["ruff", "check", "-q", "--fix", "--select", "I", *modules],
        ["ruff", "format", "-q", *modules],
        ["tools.contract"],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    for path in [*written, ROOT / "docs/schemas"]:
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    sys.stdout.write(f"Put in what {name}'s pages say, as docs/adding-a-provider.md has it; then `make test check`.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
