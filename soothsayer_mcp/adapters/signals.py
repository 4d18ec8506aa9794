"""Signals that ask us to end, heard on the event loop."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable

from soothsayer_mcp.adapters.system import ENDING


def on_signals(ending: Callable[[str], None]) -> Callable[[], None]:
    """Call `ending` on the running loop, with the signal's name, for each that asks us to end.

    Returns what puts the earlier handling back.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in ENDING}

    def hear(number: int) -> None:
        ending(signal.Signals(number).name)

    for number in ENDING:
        if sys.platform == "win32":
            signal.signal(number, lambda seen, _frame: loop.call_soon_threadsafe(hear, seen))
        else:
            loop.add_signal_handler(number, hear, number)

    def restore() -> None:
        for number, earlier in before.items():
            if sys.platform != "win32":
                with contextlib.suppress(RuntimeError):  # the loop is closed and has done so itself
                    loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)

    return restore
