"""The mutation runner: what it changes, and that a test which notices kills the mutant."""

from pathlib import Path

import pytest

from mutate import CHANGES_NOTHING, ROOT, TARGETS, Mutant, mutants, trial

SOURCE = '''
def f(a: bool = True) -> int | None:
    """Compare a with 1."""
    if a < 1 and not a:
        return a + 1
    return None
'''

CHANGES = {
    "if X -> if True",
    "if X -> if False",
    "and -> or",
    "< -> <=",
    "not X -> X",
    "1 -> 2",
    "return X -> return None",
    "+ -> -",
    "True -> False",
}


def test_each_kind_of_change_is_made_and_each_mutant_differs() -> None:
    made = list(mutants("m", SOURCE))
    assert {mutant.change for mutant in made} == CHANGES
    assert len({mutant.source for mutant in made}) == len(made)
    for mutant in made:
        compile(mutant.source, "m", "exec")
        assert '"""Compare a with 1."""' in mutant.source


def test_a_none_that_is_returned_already_is_left_alone() -> None:
    assert [mutant.change for mutant in mutants("m", "def f():\n    return None\n")] == []


NOTICES = (
    "from soothsayer_mcp.run.reserve import refuse_unless_open\ndef test_it(): assert refuse_unless_open is not None\n"
)


@pytest.mark.parametrize(("source", "killed"), [("refuse_unless_open = 1", False), ("refuse_unless_open = None", True)])
def test_a_mutant_stands_in_for_its_module_and_dies_when_a_test_fails(
    source: str, tmp_path: Path, *, killed: bool
) -> None:
    test = tmp_path / "test_notices.py"
    test.write_text(NOTICES, encoding="utf-8")
    mutant = Mutant(module="soothsayer_mcp.run.reserve", line=1, change="", source=source)
    assert trial(mutant, (str(test),), bound_s=50).killed is killed


def test_every_target_and_every_excuse_is_about_code_that_is_there() -> None:
    for module in TARGETS:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    for module, line in CHANGES_NOTHING:
        lines = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8").splitlines()
        assert line in {one.strip() for one in lines}
