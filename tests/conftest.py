"""What holds for every test: none tells the desktop of whoever runs it, and Ctrl-C means the same in every shell."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

import warm
from commands import Cold
from soothsayer_mcp.testing.hosts import RawHost, start_fresh

for _name in ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
    os.environ.pop(_name, None)
os.environ["XDG_RUNTIME_DIR"] = "/nonexistent"

# A shell that starts the suite in the background has it ignore interrupts, and all that the tests start with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines that run tests are busy: how long an example takes to be drawn says nothing of what it is drawn for.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as processors: a good part of their time tests wait for something to be over."""
    return max(1, len(os.sched_getaffinity(0)) * 3 // 2) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of a test: whether what it starts is forked from a warm process, or starts from nothing."""
    cold = item.get_closest_marker("cold") is not None or not hasattr(os, "fork") or "SOOTHSAYER_COLD" in os.environ
    RawHost.start = staticmethod(start_fresh if cold else warm.start)
    Cold.now = cold
