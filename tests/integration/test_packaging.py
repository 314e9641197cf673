"""The message that the contract shows, and the package that is built."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from sandbox.environment import ROOT
from sandbox.messages import encoded
from sandbox.service import Service


def test_the_bare_message_of_the_contract_is_taken(service: Service) -> None:
    text = (ROOT / "docs/contract.md").read_text()
    message = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1].replace("…", ""))  # type: ignore[index]
    requests = '{"requests": [{"opay_token": "OPAY_TOKEN_visa~bare"}]}'
    shown = re.search(r"`(\[\[\], \{\"requests\".*?\}\])`", text)
    assert shown
    body = shown[1].replace('{"requests": […]}', requests)
    message["body"] = encoded(body)
    service.redis.lpush("lookup.opay.interactive", json.dumps(message))
    assert service.results(message["headers"]["id"], 1)[0]["status"] == "found"


def test_the_wheel_holds_the_package_alone_and_needs_four_libraries(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    metadata = next(name for name in names if name.endswith("/METADATA"))
    assert {name.split("/")[0] for name in names} == {"cardtoken", metadata.split("/")[0]}
    needs = re.findall(
        r"^Requires-Dist: ([\w-]+)[^;\n]*$", zipfile.ZipFile(wheel).read(metadata).decode(), re.MULTILINE
    )
    assert sorted(needs) == ["click", "pydantic", "redis", "rich"]
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import cardtoken.contract as contract; print(contract.__file__, sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(wheel)], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert str(wheel) in done.stdout
    assert "celery" not in done.stdout
