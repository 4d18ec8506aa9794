"""Tells the person at this machine that something waits for them, by the desktop's own command. Best effort.

What is shown is the name of a server and a tool, never an argument: notifications stay on locked screens and in logs.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from soothsayer_mcp.adapters.launch import printable
from soothsayer_mcp.model.value import dataclass

LIMIT_S: Final = 5.0
"""How long the desktop's command may take."""
NAME_MAX: Final = 60

_APPLESCRIPT: Final = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)
_POWERSHELL: Final = (
    "Add-Type -AssemblyName System.Windows.Forms; Add-Type -AssemblyName System.Drawing;"
    "$n = New-Object System.Windows.Forms.NotifyIcon; $n.Icon = [System.Drawing.SystemIcons]::Information;"
    "$n.Visible = $true; $n.ShowBalloonTip(10000, $env:SOOTHSAYER_TITLE, $env:SOOTHSAYER_BODY, 'Info');"
    "Start-Sleep -Seconds 4; $n.Dispose()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desktop:
    """The desktop's command, found once."""

    kind: str
    """`notify-send`, `osascript` or `powershell`."""
    path: str
    bus: str = ""
    """The session's message bus, where the environment does not name it: hosts start us with little of theirs."""

    def tell(self, server: str, tool: str, *, limit_s: float = LIMIT_S) -> bool:
        """Say that a call of a tool waits for a person; whether the command took it. Blocks until it ended."""
        name = f"{printable(server)[:NAME_MAX]}.{printable(tool)[:NAME_MAX]}"
        return self._told(f"A call of {name} waits for you", limit_s)

    def try_out(self, *, limit_s: float = LIMIT_S) -> bool:
        """Send a notification that says what it is; whether the command took it."""
        return self._told("This is how you are told that a call waits for you (soothsayer doctor)", limit_s)

    def _told(self, body: str, limit_s: float) -> bool:
        argv, more = self._command("Soothsayer", body)
        try:
            ended = subprocess.run(  # noqa: S603 - no shell; what came from outside is one word of its own
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **more},
                timeout=limit_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return ended.returncode == 0

    def tell_soon(self, server: str, tool: str) -> bool:
        """Say so without waiting for the command; true, since nobody learns whether it was taken."""
        threading.Thread(target=self.tell, args=(server, tool), name="notify", daemon=True).start()
        return True

    def _command(self, title: str, body: str) -> tuple[Sequence[str], Mapping[str, str]]:
        match self.kind:
            case "osascript":
                script = [word for line in _APPLESCRIPT for word in ("-e", line)]
                return (self.path, *script, "--", title, body), {}
            case "powershell":
                # The texts go by the environment, so that none is ever read as a command.
                argv = (self.path, "-NoProfile", "-NonInteractive", "-Command", _POWERSHELL)
                return argv, {"SOOTHSAYER_TITLE": title, "SOOTHSAYER_BODY": body}
            case _:
                more = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.bus}"} if self.bus else {}
                return (self.path, "--app-name=Soothsayer", "--", title, body), more


def find(environ: Mapping[str, str] = os.environ, system: str = sys.platform) -> Desktop | None:
    """The desktop's command; `None` where there is no desktop, or none that can be told."""
    kind = {"darwin": "osascript", "win32": "powershell"}.get(system, "notify-send")
    bus = ""
    if kind == "notify-send" and not environ.get("DBUS_SESSION_BUS_ADDRESS"):
        runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
        bus = str(runtime / "bus") if (runtime / "bus").exists() else ""
        if not bus and not any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
            return None
    path = shutil.which(kind, path=environ.get("PATH", os.defpath))
    return None if path is None else Desktop(kind=kind, path=path, bus=bus)
