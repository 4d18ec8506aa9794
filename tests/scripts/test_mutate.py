"""The mutation runner: what it changes, and that a test which notices kills the mutant."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mutant_notes import NOTES, Figure, Note, StaleNoteError, Survivor, figures, keep, notes_of
from mutate import ROOT, TARGETS, Known, Source, Trial, changed, figure, function_at, mutants, put_in_place, report
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


CALLED = """
def made(a):
    def inner():
        return later()
    return asked(inner)
def asked(a):
    return a
def later():
    return 1
class C:
    x = made(1)
    def m(self):
        return unasked()
TABLE = {"x": lambda: unasked()}
def unasked():
    return 2
"""


def test_what_an_import_calls_is_imported_again_to_be_changed() -> None:
    assert Source("m", CALLED).at_import == {"made", "asked"}
    matching = Source("soothsayer_mcp.policy.match", (ROOT / "soothsayer_mcp/policy/match.py").read_text())
    assert matching.at_import == {"_compares"}
    mutant = next(one for one in matching.mutants() if one.inside == "_compares")
    assert not put_in_place(matching, mutant)


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
    made = mutants("m", "def f(a):\n    if a < 1:\n        return a\n")
    alive, by_a_test = Trial(by="", reached=1), Trial(by="tests/test_it.py::test_it", reached=1)
    notes = {0: Note(why="why", same=True), 1: Note(why="not worth it", same=False)}
    told = report("m", len(made), [(one, by_a_test if one.number > 2 else alive) for one in made], notes)
    assert (told.tried, told.noticed, told.changes_nothing) == (len(made), len(made) - 3, 1)
    assert told.rate == (len(made) - 3) / (len(made) - 1)
    assert [(held["why"], held["changes_nothing"]) for held in told.survivors] == [
        ("why", True),
        ("not worth it", False),
        ("", False),
    ]
    assert told.stale == ()


def test_a_note_about_a_mutant_that_a_test_notices_is_stale() -> None:
    (mutant,) = mutants("m", "x = 1")
    note = {0: Note(why="why", same=True)}
    (told,) = report("m", 1, [(mutant, Trial(by="tests/test_it.py::test_it", reached=1))], note).stale
    assert told == "m.py:1: 1 -> 2    x = 1    by tests/test_it.py::test_it"
    assert report("m", 1, [(mutant, Trial(by="time", reached=1))], note).stale == ()


NOTE = """
[[{kind}]]
inside = "f"
line = "return a + 1 + 1"
change = "{change}"
why = "why"
"""
TWICE = mutants("m", "def f(a):\n    return a + 1 + 1\n")


def _noted(folder: Path, text: str) -> dict[str, Note]:
    (folder / "m.toml").write_text(text)
    return {f"{number} {TWICE[number].change}": note for number, note in notes_of("m", TWICE, folder).items()}


def test_a_note_is_about_every_mutant_like_it_or_about_the_nth(tmp_path: Path) -> None:
    changes = [one.change for one in TWICE]
    first, second = (number for number, change in enumerate(changes) if change == "1 -> 2")
    text = NOTE.format(kind="same", change="1 -> 2")
    both = {f"{first} 1 -> 2": Note(why="why", same=True), f"{second} 1 -> 2": Note(why="why", same=True)}
    assert _noted(tmp_path, text) == both
    assert list(_noted(tmp_path, f"{text}nth = 2")) == [f"{second} 1 -> 2"]
    left = NOTE.format(kind="left", change="return X -> return None")
    assert list(_noted(tmp_path, left).values()) == [Note(why="why", same=False)]
    assert notes_of("another", TWICE, tmp_path) == {}


@pytest.mark.parametrize(
    "text",
    [
        NOTE.format(kind="same", change="2 -> 3"),
        NOTE.format(kind="same", change="1 -> 2") + "nth = 3",
        NOTE.format(kind="same", change="1 -> 2") + "nr = 1",
        NOTE.format(kind="same", change="1 -> 2").replace('"why"', '""'),
        NOTE.format(kind="same", change="1 -> 2").replace('inside = "f"', ""),
        NOTE.format(kind="other", change="1 -> 2"),
        NOTE.format(kind="same", change="1 -> 2") * 2,
    ],
    ids=["no such change", "no such one of them", "unknown key", "no reason", "no function", "unknown kind", "twice"],
)
def test_a_note_that_is_about_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(StaleNoteError):
        _noted(tmp_path, text)


def test_what_was_measured_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    made = mutants("m", "x = 1\ny = 2")
    notes = {0: Note(why="why", same=True)}
    found = report("m", 2, [(made[0], Trial(by="", reached=1)), (made[1], Trial(by="import", reached=1))], notes)
    kept = figure(found, "make mutate")
    keep(kept, tmp_path)
    assert figures(tmp_path) == [kept]
    survivor = Survivor(inside="", line="x = 1", change="1 -> 2", why="why", same=True)
    expected = Figure(module="m", date=kept.date, command="make mutate", mutants=2, noticed=1, survivors=(survivor,))
    assert kept == expected
    assert (kept.excused, kept.rate) == (1, 1.0)


@pytest.mark.parametrize("module", TARGETS)
def test_every_target_and_every_note_is_about_code_that_is_there(module: str) -> None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    assert all((ROOT / test).exists() for test in TARGETS[module])
    notes_of(module, mutants(module, path.read_text(encoding="utf-8")))


def test_every_note_and_every_figure_is_about_a_target() -> None:
    assert {path.stem for path in NOTES.iterdir()} <= TARGETS.keys()


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
    assert run.wait(60) == 128 + signal.SIGTERM
    assert len(seen) > 2
    left = {pid: state for pid, (_, group, state) in _processes().items() if {pid, group} & seen and state[0] != "Z"}
    assert left == {}
    assert list(tmp_path.glob("*.json"))
