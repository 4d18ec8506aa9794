"""The mutation runner: what it changes, and that a test which notices kills the mutant."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mutate import CHANGES_NOTHING, ROOT, TARGETS, Known, Trial, changed, function_at, mutants, report
from soothsayer_mcp.policy import decide as deciding

SOURCE = '''
LIMIT = 3
def f(a: bool = True) -> int | None:
    """Compare a with 1."""
    if a < 1 and not a:
        print(a)
        return a + 1 if a else a
    return None
class C:
    def m(self):
        def inner():
            return 0
        return inner
'''

CHANGES = {
    "if X -> if True",
    "if X -> if False",
    "and -> or",
    "< -> <=",
    "not X -> X",
    "0 -> 1",
    "1 -> 2",
    "3 -> 4",
    "return X -> return None",
    "+ -> -",
    "True -> False",
    "f() -> pass",
    "A if X else B -> A",
    "A if X else B -> B",
}


def test_each_kind_of_change_is_made_and_each_mutant_differs() -> None:
    made = mutants("m", SOURCE)
    assert {mutant.change for mutant in made} == CHANGES
    sources = [changed("m", SOURCE, mutant.number) for mutant in made]
    assert len(set(sources)) == len(made)
    for source in sources:
        compile(source, "m", "exec")
        assert '"""Compare a with 1."""' in source


def test_a_mutant_knows_the_function_it_is_in_and_the_lines_that_must_run() -> None:
    by_change = {mutant.change: mutant for mutant in mutants("m", SOURCE)}
    assert by_change["3 -> 4"].inside == by_change["True -> False"].inside == ""
    assert by_change["+ -> -"].inside == "f"
    assert (by_change["and -> or"].head, by_change["and -> or"].body) == ((5, 5), (4, 8))
    assert (by_change["0 -> 1"].inside, by_change["0 -> 1"].body) == ("C.m", (12, 12))


def test_a_none_that_is_returned_already_is_left_alone() -> None:
    assert [mutant.change for mutant in mutants("m", "def f():\n    return None\n")] == []


def test_a_function_is_found_below_what_wraps_it() -> None:
    found = function_at(deciding, "visible")
    assert found is not None
    assert found.__name__ == "visible"
    assert function_at(deciding, "_MOST_CONCLUDED") is None
    assert function_at(deciding, "not_there.at_all") is None


def test_each_chosen_mutant_is_tried_once_and_known_the_next_time(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/mutate.py", "policy.answers", "--tests", "tests/policy/test_decide.py"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--sample", "12", "--json", "--kept", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=110,
        )

    first = run()
    (found,) = json.loads(first.stdout)
    assert found["tried"] == 12
    assert found["possible"] == len(mutants("m", (ROOT / "soothsayer_mcp/policy/answers.py").read_text()))
    assert 12 > found["noticed"] > 2
    assert found["noticed"] + len(found["survivors"]) == 12
    again = run()
    assert again.stdout == first.stdout
    assert "12/12" in first.stderr
    assert not again.stderr


def test_what_is_known_is_forgotten_with_the_source_or_the_test_that_noticed(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("1")
    noticed, survived = Trial(by=f"{test}::test_it", reached=1), Trial(by="", reached=1)
    known = Known("m", "a = 1", [str(test)], tmp_path)
    known.put(0, noticed)
    known.put(1, survived)
    known.save()
    assert [Known("m", "a = 1", [str(test)], tmp_path).get(number) for number in range(3)] == [noticed, survived, None]
    assert Known("m", "a = 2", [str(test)], tmp_path).get(0) is None
    test.write_text("2")
    assert [Known("m", "a = 1", [str(test)], tmp_path).get(number) for number in range(2)] == [None, None]


def test_what_changes_nothing_is_counted_apart_and_named() -> None:
    (module, text, _), why = next(iter(CHANGES_NOTHING.items()))
    (mutant, *_) = mutants("m", "x = 1")
    same = replace(mutant, module=module, text=text)
    told = report(
        "m", 3, [(mutant, Trial(by="t", reached=1)), (mutant, Trial(by="", reached=1)), (same, Trial(by="", reached=1))]
    )
    assert (told.tried, told.noticed, told.changes_nothing, told.rate) == (3, 1, 1, 0.5)
    assert [held["changes_nothing"] for held in told.survivors] == ["", why]


def test_every_target_and_every_excuse_is_about_code_that_is_there() -> None:
    for module, tests in TARGETS.items():
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        assert all((ROOT / test).exists() for test in tests)
    for module, line, change in CHANGES_NOTHING:
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert any(one.text == line and change in {"", one.change} for one in mutants(module, source)), (module, line)


def _processes() -> dict[int, tuple[int, int, str]]:
    """Pid -> parent, group and state of every process."""
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return {
        int(pid): (int(above), int(group), state) for pid, above, group, state in map(str.split, listed.splitlines())
    }


def _below(pid: int) -> set[int]:
    every = _processes()
    found, waiting = set[int](), {pid}
    while waiting:
        waiting = {child for child, (above, _, _) in every.items() if above in waiting} - found
        found |= waiting
    return found


@pytest.mark.skipif(shutil.which("ps") is None, reason="processes are listed with ps")
def test_a_run_that_is_stopped_leaves_no_process_and_keeps_what_it_knows(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/mutate.py", "policy.answers", "--tests", "tests/policy/test_decide.py"]
    run = subprocess.Popen([*command, "--kept", str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    seen: set[int] = set()
    until = time.monotonic() + 60
    while time.monotonic() < until and run.poll() is None:
        seen |= _below(run.pid)
        # One process that has the tests, one that watches or is a mutant.
        if len(seen) > 2:
            break
    run.terminate()
    assert run.wait(30) == 128 + signal.SIGTERM
    assert len(seen) > 2
    left = {pid: state for pid, (_, group, state) in _processes().items() if {pid, group} & seen and state[0] != "Z"}
    assert left == {}
    assert list(tmp_path.glob("*.json"))
