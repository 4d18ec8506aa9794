"""A run that used up a budget is given more from the screens of `watch`, as far as its policy's ceiling."""

import asyncio
from pathlib import Path

from end_to_end.test_run_budgets import POLICY, SCRIPT, reason
from fidelity.rig import Rig
from watch.conftest import watching


def test_a_budget_is_raised_by_a_key_up_to_the_ceiling_and_the_proxy_goes_on(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY) as rig:
        rig.host.initialize()
        assert [reason(rig.host.call("echo")) for _ in range(4)] == [None, None, None, "budget_spent"]

        async def scene() -> None:
            async with watching(tmp_path / "state", "runs") as it:
                await it.until("+ budget")
                await it.press("plus")
                await it.until("Raise a budget of run")
                await it.press(*"calls=9", "enter")
                await it.until("the budget calls may become 4 at most")
                await it.press("plus")
                await it.until("Raise a budget of run")
                await it.press(*"cals=1", "enter")
                await it.until('"cals=1" names no budget')
                await it.press("plus")
                await it.until("Raise a budget of run")
                await it.press(*"calls=1", "enter")
                await it.until("is open, with calls=1 more")

        asyncio.run(scene())
        assert [reason(rig.host.call("echo")) for _ in range(2)] == [None, "budget_spent"]
