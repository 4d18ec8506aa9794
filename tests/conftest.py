"""What holds for every test: none tells the desktop of whoever runs it, and Ctrl-C means the same in every shell."""

import os
import signal

from hypothesis import HealthCheck, settings

for _name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
    os.environ.pop(_name, None)
os.environ["XDG_RUNTIME_DIR"] = "/nonexistent"

# A shell that starts the suite in the background has it ignore interrupts, and all that the tests start with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines that run tests are busy: how long an example takes to be drawn says nothing of what it is drawn for.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
