"""What a run was opened for: the lowest scope, which only tightens."""

from dataclasses import replace

import pytest

from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.facts import NO_FACTS, Facts
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.run import RunScope
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.paths import Place
from soothsayer_mcp.policy.within import is_outside, paths_of, scope_questions
from soothsayer_mcp.testing.factories import make_policy, make_rule, make_step, make_tool
from soothsayer_mcp.testing.world import World

PLACE = Place(root="/work", home="/home/tester")
READ = frozenset({"read"})
WRITE = frozenset({"write"})
SRC = RunScope(under=("/work/src",))


def outside(
    scope: RunScope, arguments: JsonObject, *, tool: str = "fs.write_file", does: frozenset[str] = WRITE
) -> bool:
    server, name = tool.split(".")
    return is_outside(scope, server, name, does=does, arguments=arguments, place=PLACE, facts=NO_FACTS)


@pytest.mark.parametrize(
    ("only", "tool", "wanted"),
    [
        ("fs.*", "fs.read", False),
        ("fs.read_*", "fs.read_file", False),
        ("fs.read_*", "fs.write_file", True),
        ("fs.*", "mail.send", True),
        ("fs", "fs.read", False),
        ("fs", "fsx.read", True),
    ],
)
def test_only_the_named_tools_are_within(only: str, tool: str, *, wanted: bool) -> None:
    assert outside(RunScope(only=(only,)), {}, tool=tool) is wanted


def test_one_of_several_patterns_is_enough() -> None:
    assert not outside(RunScope(only=("mail.*", "fs.*")), {}, tool="fs.read")


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "src/app.py"},
        {"path": "/work/src/a/../app.py"},
        {"source": "src/a", "destination": "src/b"},
        {"paths": ["src/a", "src/b"]},
        {"path": "src/a", "content": "a text with a / in it\n/etc/passwd"},
        {"edits": [{"filePath": "src/a", "oldText": "x"}]},
    ],
)
def test_a_call_whose_files_all_lie_below_a_folder_is_within(arguments: JsonObject) -> None:
    assert not outside(SRC, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "docs/a.md"},
        {"path": "src/../docs/a.md"},
        {"path": "/work/srcs/a"},
        {"path": "src%2f..%2fdocs"},
        {"path": "$HOME/a"},
        {"source": "src/a", "destination": "docs/b"},
        {"paths": ["src/a", "/etc/passwd"]},
        {"path": "src/a", "other": "/etc/passwd"},
        {"path": "src/a", "other": "../docs"},
        {"path": "src/a", "nested": {"deep": ["file:///etc/passwd"]}},
        {"edits": [{"filePath": "docs/a"}]},
    ],
)
def test_a_call_that_names_a_file_elsewhere_is_beyond_it(arguments: JsonObject) -> None:
    assert outside(SRC, arguments)
    assert outside(SRC, arguments, tool="fs.read_file", does=READ)


def test_a_call_that_names_no_file_is_within_only_if_it_reads() -> None:
    assert outside(SRC, {"command": "make"}, does=frozenset({"exec"}))
    assert outside(SRC, {}, does=frozenset({"unlabelled"}))
    assert not outside(SRC, {}, does=READ)


def test_a_link_out_of_the_folder_is_followed() -> None:
    place = Place(root="/work", home="/home/tester", local=True)
    arguments: JsonObject = {"path": "src/link"}
    asked = scope_questions(SRC, arguments, place)
    assert set(asked) == {"/work/src", "/work/src/link"}
    for target, wanted in (("/etc/passwd", True), ("/work/src/real", False)):
        facts = Facts(links={"/work/src": "/work/src", "/work/src/link": target})
        found = is_outside(SRC, "fs", "write", does=WRITE, arguments=arguments, place=place, facts=facts)
        assert found is wanted
    assert is_outside(SRC, "fs", "write", does=WRITE, arguments=arguments, place=place, facts=NO_FACTS)


@pytest.mark.parametrize("mode", Mode)
def test_a_call_beyond_the_scope_is_denied_whatever_the_policy_allows_or_only_observes(mode: Mode) -> None:
    run = replace(World().run, scope=RunScope(only=("mail.*",)))
    decision = decide(make_policy(mode=mode), run, make_step(), NO_FACTS)
    assert (decision.effect, decision.reason) == (Effect.DENY, Reason.OUT_OF_SCOPE)
    assert [rule.id for rule in decision.rules] == ["step/out_of_scope"]
    assert decision.rules[0].text == "tools mail.*"


def test_a_scope_permits_nothing() -> None:
    run = replace(World().run, scope=RunScope(only=("files.*",)))
    policy = make_policy(rules=[make_rule(Effect.DENY, tools="files.read")])
    assert decide(policy, run, make_step(make_tool("read")), NO_FACTS).effect is Effect.DENY
    assert decide(make_policy(Effect.ASK), run, make_step(make_tool("read")), NO_FACTS).effect is Effect.ASK


def test_links_are_looked_up_for_what_is_compared_with_a_folder_of_this_machine() -> None:
    here, arguments = replace(PLACE, local=True), {"path": "src/a"}
    assert scope_questions(SRC, arguments, here) == ("/work/src", "/work/src/a")
    assert scope_questions(SRC, arguments, PLACE) == ()
    assert scope_questions(RunScope(only=("fs.*",)), arguments, here) == ()
    assert scope_questions(RunScope(), arguments, PLACE) == ()


def test_what_is_no_text_names_no_file() -> None:
    assert paths_of({"path": 3, "paths": [None, True, "a"], "file": None, "root": {"x": 1.5}}) == ("a",)


def _under(folder: str, path: str, place: Place, links: dict[str, str] | None = None) -> bool:
    facts = Facts(links=links or {})
    return not is_outside(
        RunScope(under=(folder,)), "fs", "write", does=WRITE, arguments={"path": path}, place=place, facts=facts
    )


def test_what_a_folder_of_this_machine_leads_to_counts_as_the_folder() -> None:
    links = {"/work/src": "/real/src", "/work/src/a": "/real/src/a", "/work/src/b": "/real/b"}
    assert _under("src", "src/a", replace(PLACE, local=True), links)
    assert not _under("src", "src/b", replace(PLACE, local=True), links)


def test_a_folder_elsewhere_is_read_as_it_is_spelled() -> None:
    assert _under("/work/a%20b", "/work/a%20b/c", PLACE) is False
    assert _under("/work/a b", "/work/a%20b/c", PLACE) is False
    assert _under("/work/a b", "/work/a b/c", PLACE)
    assert _under("/work/a%20b", "/work/a b/c", PLACE) is False


def test_folders_compare_with_case_but_on_windows() -> None:
    assert _under("/work/Src", "/work/Src/a", PLACE)
    assert not _under("/work/Src", "/work/src/a", PLACE)
    windows = Place(root="C:/Work", home="C:/Users/t", windows=True)
    assert _under("C:/Work/Src", "c:\\work\\src\\a", windows)
    assert not _under("C:/Work/Src", "c:\\work\\other\\a", windows)
