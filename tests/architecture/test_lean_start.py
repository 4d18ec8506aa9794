"""What a real `soothsayer proxy` has loaded after a governed call: the interpreter itself tells, by `-X importtime`."""

import re
import sys
from pathlib import Path

from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import Script

IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", re.MULTILINE)

NEVER = {"mcp", "httpx2", "starlette", "uvicorn", "click", "rich", "textual", "cryptography"}
"""What a stdio proxy has no use for."""

FIRST_START = {"pydantic", "yaml", "importlib.metadata"}
"""What reads a policy that was not read before; the checked form is kept."""


def loaded_by_a_governed_call(folder: Path) -> set[str]:
    script = Script()
    command = [sys.executable, "-X", "importtime", "-m", "soothsayer_mcp", "proxy", "--state", folder / "state"]
    with RawHost([*command, "--policy", "observe", "--", *script.command(folder)], cwd=folder) as host:
        host.initialize()
        host.notify("notifications/initialized")
        assert [tool["name"] for tool in host.request("tools/list")["result"]["tools"]] == ["echo"]  # type: ignore[index,call-overload]  # a test's own server
        assert "isError" not in str(host.call("echo", {"text": "x"}))
        host.end_input()
        assert host.exit_code() == 0
        said = host.stderr
    assert script.record(folder).calls("echo") != []
    return set(IMPORTED.findall(said))


def _of(loaded: set[str], packages: set[str]) -> set[str]:
    return {name for name in loaded if any(name == one or name.startswith(f"{one}.") for one in packages)}


def test_a_stdio_proxy_never_loads_what_only_people_and_http_need(tmp_path: Path) -> None:
    first = loaded_by_a_governed_call(tmp_path)
    assert "soothsayer_mcp.governor" in first
    assert _of(first, NEVER) == set()
    assert _of(first, FIRST_START) != set()
    # The policy was read before, so its checked form is enough.
    second = loaded_by_a_governed_call(tmp_path)
    assert "soothsayer_mcp.governor" in second
    assert _of(second, NEVER | FIRST_START) == set()
