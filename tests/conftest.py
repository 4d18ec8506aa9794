"""What holds for every test: none of them tells the desktop of whoever runs it."""

import os

for _name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
    os.environ.pop(_name, None)
os.environ["XDG_RUNTIME_DIR"] = "/nonexistent"
