"""Several servers shown as one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_parts import frames
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.proxy import merge
from soothsayer_mcp.proxy.merge import Hidden, HiddenItem, Item, ListKind, ListUnreadableError, Opening
from soothsayer_mcp.proxy.names import Names

SEVERAL = Names(["fs", "s"])

INFO = b'{"name":"soothsayer","version":"1"}'


def carries_all(_member: str, _name: str) -> bool:
    return True


def carries_none(_member: str, _name: str) -> bool:
    return False


def openings(*results: Json) -> list[Opening]:
    return [
        Opening(server=f"s{n}", frame=frames.result({"protocolVersion": "2025-11-25", "capabilities": result}))
        for n, result in enumerate(results)
    ]


def shown(items: list[Item]) -> list[str]:
    return [item.shown for item in items]


@given(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), st.text())
def test_a_shown_name_leads_back_to_its_server_and_own_name(server: str, name: str) -> None:
    several = Names([server, "another"])
    assert several.own(several.shown(server, name)) == (server, name)


def test_two_servers_never_meet_in_one_name() -> None:
    """A server named `git__hub` would meet the tool `hub__deploy` of `git`; it cannot be named so."""
    assert Names(["git", "hub"]).own("git__hub__deploy") == ("git", "hub__deploy")
    assert [Names(["github", "b"]).own(name) for name in ("github_deploy", "evil__x", "GitHub__deploy")] == [None] * 3


def test_an_own_name_is_put_into_a_request_and_every_other_byte_stays() -> None:
    line = (
        '{ "id":7,"jsonrpc":"2.0", "method":"tools/call","params":'
        '{"arguments":{"name":"n","v":1.50}, "name" : "fs__r\\u00e9"}}'
    )
    frame = frames.host(line)
    assert merge.with_own_name(frame, 'r"é') == line.replace('"fs__r\\u00e9"', '"r\\"é"').encode()
    ref = frames.host(
        '{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"fs__p"}}}'
    )
    assert merge.with_own_name(ref, "p", ("params", "ref", "name")) == ref.raw.replace(b"fs__p", b"p")


def test_capabilities_are_united_and_empty_is_not_absent() -> None:
    told = json.loads(
        merge.merged_capabilities(
            openings(
                {"tools": {}, "resources": {"subscribe": False}, "x-new": {"a": 1}, "logging": None},
                {"tools": {"listChanged": False, "x-sub": 7}, "resources": {"subscribe": True}, "completions": {}},
                {"x-new": {"a": 2}, "prompts": {}},
            ),
            carries_none,
        )
    )
    assert told == {
        "tools": {"listChanged": True, "x-sub": 7},
        "resources": {"listChanged": True, "subscribe": True},
        "completions": {},
        "prompts": {"listChanged": True},
        "x-new": {"a": 1},
    }


def test_what_needs_carrying_is_shown_only_where_it_is_carried_and_the_first_server_wins() -> None:
    both = openings(
        {"tasks": {"list": {}}, "extensions": {"a/b": {"n": 1}}, "experimental": {"x": {}}},
        {"tasks": {"cancel": {}}, "extensions": {"a/b": {"n": 2}, "c/d": {}}},
    )
    assert json.loads(merge.merged_capabilities(both, carries_all)) == {
        "tasks": {"list": {}},
        "extensions": {"a/b": {"n": 1}, "c/d": {}},
        "experimental": {"x": {}},
    }
    assert json.loads(
        merge.merged_capabilities(both, lambda member, name: (member, name) == ("extensions", "c/d"))
    ) == {"extensions": {"c/d": {}}}
    assert json.loads(merge.merged_capabilities(both, carries_none)) == {}


def test_numbers_in_capabilities_keep_their_spelling() -> None:
    line = '{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"experimental":{"x":{"n":1e400,"d":1.10}},"y":-0.0}}}'
    told = merge.merged_capabilities([Opening(server="a", frame=frames.server(line))], carries_all)
    assert told == b'{"experimental":{"x":{"n":1e400,"d":1.10}},"y":-0.0}'


@pytest.mark.parametrize("capabilities", [None, [], "x", {"tools": True, "extensions": 7}])
def test_capabilities_of_any_shape_are_survived(capabilities: Json) -> None:
    told = json.loads(merge.merged_capabilities(openings(capabilities), carries_all))
    assert told in ({}, {"tools": {"listChanged": True}})


@pytest.mark.parametrize(
    ("asked", "answered", "told"),
    [
        ("2025-06-18", ["2025-11-25", "2025-06-18"], "2025-06-18"),
        ("2025-11-25", ["2024-11-05", "2025-06-18"], "2025-06-18"),
        ("1999-01-01", ["2025-03-26"], "2025-03-26"),
        ("2027-01-01", ["2026-12-01", "2026-11-01"], "2026-12-01"),
    ],
)
def test_the_version_told_is_one_that_a_server_answered(asked: str, answered: list[str], told: str) -> None:
    assert merge.merged_version(asked, answered) == told


def test_one_initialize_result_is_made_of_several() -> None:
    one = frames.result(
        {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "a"},
            "instructions": "Be kind.",
        }
    )
    two = frames.result({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}, "instructions": ""})
    three = frames.result({"protocolVersion": "2025-11-25", "capabilities": {}, "instructions": "Be quick."})
    given = [Opening(server=name, frame=frame) for name, frame in (("a", one), ("b", two), ("c", three))]
    told = merge.initialize_result(given, asked="2025-11-25", server_info=INFO, carries=carries_none)
    assert json.loads(told) == {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "soothsayer", "version": "1"},
        "instructions": "## a\n\nBe kind.\n\n## c\n\nBe quick.",
    }
    none = merge.initialize_result([], asked="2025-11-25", server_info=INFO, carries=carries_none)
    assert json.loads(none)["capabilities"] == {}


def discovered(versions: list[Json], **more: Json) -> Opening:
    return Opening(server="s", frame=frames.result({"supportedVersions": versions, "capabilities": {}, **more}))


def test_discover_is_answered_only_if_every_server_speaks_the_stateless_era() -> None:
    new = discovered(["2026-07-28", "2025-11-25"], ttlMs=60, cacheScope="public", instructions="x")
    newer = discovered(["2027-01-01", "2026-07-28"], ttlMs=9, cacheScope="private")
    told = merge.discover_result([new, newer], server_info=INFO, carries=carries_none)
    assert told is not None
    assert json.loads(told) == {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {},
        "instructions": "## s\n\nx",
        "ttlMs": 9,
        "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "soothsayer", "version": "1"}},
    }
    for other in (discovered(["2025-11-25"]), Opening(server="e", frame=frames.result({})), discovered([])):
        assert merge.discover_result([new, other], server_info=INFO, carries=carries_none) is None
    assert merge.discover_result([], server_info=INFO, carries=carries_none) is None


def test_a_server_is_shown_what_the_host_declared_less_what_policy_forbids() -> None:
    capabilities: Json = {
        "roots": {"listChanged": True},
        "sampling": {},
        "elicitation": {},
        "tasks": {"requests": {"sampling": {}, "elicitation": {}}},
    }
    client = '"clientInfo": {"name":"h","x":null,"n":1.50}'
    params = f'{{"capabilities":{json.dumps(capabilities)},{client}}}'
    line = f'{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}'
    frame = frames.host(line)
    sent = merge.initialize_for(frame, request_id="sth-a-1", forbidden=merge.SAMPLING)
    assert client.encode() in sent
    assert json.loads(sent)["id"] == "sth-a-1"
    assert json.loads(sent)["params"]["capabilities"] == {
        "roots": {"listChanged": True},
        "elicitation": {},
        "tasks": {"requests": {"elicitation": {}}},
    }
    whole = frame.edited(*merge.capability_edits(frame, (*merge.SAMPLING, ("tasks",))))
    assert json.loads(whole)["params"]["capabilities"] == {"roots": {"listChanged": True}, "elicitation": {}}


def test_a_stateless_request_declares_no_more_than_policy_permits() -> None:
    meta: Json = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {
            "sampling": {},
            "extensions": {"io.modelcontextprotocol/tasks": {}, "x": {}},
        },
    }
    frame = frames.host({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})
    forbidden = (("extensions", "io.modelcontextprotocol/tasks"), *merge.SAMPLING)
    sent = json.loads(frame.edited(*merge.capability_edits(frame, forbidden)))
    assert sent["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {"extensions": {"x": {}}}
    assert frame.edited(*merge.capability_edits(frame, merge.ROOTS)) == frame.raw


TOOL = '{ "description":"d\\u00e9","name" : "read_file", "inputSchema":{"name":"x","default":null,"n":1.0},"x-s":null}'


def page(kind: ListKind, *items: str, more: str = "") -> str:
    return f'{{"jsonrpc":"2.0","id":1,"result":{{"{kind.member}":[{" , ".join(items)}]{more}}}}}'


def test_a_listed_item_changes_in_its_name_and_nowhere_else() -> None:
    frame = frames.server(page(ListKind.TOOLS, TOOL, '{"name":""}'))
    items, hidden = merge.listed("fs", frame, ListKind.TOOLS, SEVERAL)
    assert hidden == []
    assert [(item.name, item.shown) for item in items] == [("read_file", "fs__read_file"), ("", "fs__")]
    assert items[0].raw == TOOL.encode()
    assert items[0].shown_raw == TOOL.replace('"read_file"', '"fs__read_file"').encode()
    alone, _ = merge.listed("fs", frame, ListKind.TOOLS, Names(["fs"]))
    assert alone[0].shown_raw == alone[0].raw == TOOL.encode()
    assert shown(alone) == ["read_file", ""]


@given(
    st.text(min_size=1), st.dictionaries(st.text("abc1", max_size=4), st.none() | st.integers() | st.text(max_size=3))
)
def test_the_shown_bytes_of_an_item_say_the_same_but_for_the_name(name: str, more: dict[str, Json]) -> None:
    value: Json = {**{f"x-{key}": inner for key, inner in more.items()}, "name": name}
    frame = frames.result({"prompts": [value]})
    items, _ = merge.listed("s", frame, ListKind.PROMPTS, SEVERAL)
    for item in items:
        assert json.loads(item.shown_raw) == {**json.loads(item.raw), "name": f"s__{name}"}


def test_uris_are_never_prefixed() -> None:
    frame = frames.server(page(ListKind.TEMPLATES, '{"uriTemplate":"x://{a}","name":"n"}'))
    items, _ = merge.listed("fs", frame, ListKind.TEMPLATES, SEVERAL)
    assert shown(items) == ["x://{a}"]
    assert items[0].shown_raw == items[0].raw


@pytest.mark.parametrize(
    "line",
    [
        '{"jsonrpc":"2.0","id":1,"result":{}}',
        '{"jsonrpc":"2.0","id":1,"result":{"tools":{}}}',
        '{"jsonrpc":"2.0","id":1,"result":7}',
        '{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}',
        '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"safe","name":"evil"}]}}',
        '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}],"tools":[{"name":"b"}]}}',
    ],
)
def test_a_list_that_cannot_be_read_in_one_way_is_an_error(line: str) -> None:
    with pytest.raises(ListUnreadableError):
        merge.listed("fs", frames.server(line), ListKind.TOOLS, SEVERAL)


def test_an_item_without_a_name_is_hidden_and_told() -> None:
    frame = frames.server(page(ListKind.TOOLS, "7", '{"title":"x"}', '{"name":null}', '{"name":"ok"}'))
    items, hidden = merge.listed("fs", frame, ListKind.TOOLS, SEVERAL)
    assert shown(items) == ["fs__ok"]
    assert hidden == [HiddenItem(server="fs", name="", why=Hidden.UNNAMED)] * 3


def all_of(kind: ListKind, servers: dict[str, list[str]]) -> list[Item]:
    """With one server its own names are shown, with several they are prefixed."""
    items: list[Item] = []
    for server, own in servers.items():
        values: list[Json] = [{kind.identity: name} for name in own]
        items += merge.listed(server, frames.result({kind.member: values}), kind, Names(list(servers)))[0]
    return items


def test_of_two_that_look_alike_the_second_is_hidden_and_told() -> None:
    items = all_of(ListKind.TOOLS, {"fs": ["read", "Read", "ﬁle", "file", "read"], "git": ["read"]})
    kept, hidden = merge.without_clashes(items, ListKind.TOOLS)
    assert shown(kept) == ["fs__read", "fs__ﬁle", "git__read"]
    assert [(item.name, item.why, item.like) for item in hidden] == [
        ("Read", Hidden.LOOKS_ALIKE, "fs__read"),
        ("file", Hidden.LOOKS_ALIKE, "fs__ﬁle"),
        ("read", Hidden.LOOKS_ALIKE, "fs__read"),
    ]


@pytest.mark.parametrize("others", [{}, {"another": ["x"]}])
def test_a_tool_named_like_a_control_tool_is_hidden_whatever_its_case(others: dict[str, list[str]]) -> None:
    items = all_of(ListKind.TOOLS, {"evil": ["soothsayer_run", "Soothsayer_Run", "ok"]} | others)
    items = [item for item in items if item.server == "evil"]
    kept, hidden = merge.without_clashes(items, ListKind.TOOLS, reserved={"soothsayer_run"})
    assert [item.name for item in kept] == ["ok"]
    assert {item.why for item in hidden} == {Hidden.RESERVED}
    free, _ = merge.without_clashes(items, ListKind.TOOLS)
    assert [item.name for item in free] == ["soothsayer_run", "ok"]


def test_no_alias_reaches_a_server_under_anothers_name() -> None:
    """Servers `github` (tool `deploy`) and `evil` (tool `github_deploy`, and one named `github__deploy`)."""
    items = all_of(ListKind.TOOLS, {"github": ["deploy"], "evil": ["github_deploy", "github__deploy"]})
    kept, _ = merge.without_clashes(items, ListKind.TOOLS)
    owners = {item.shown: Names(["github", "evil"]).own(item.shown) for item in kept}
    assert owners == {
        "github__deploy": ("github", "deploy"),
        "evil__github_deploy": ("evil", "github_deploy"),
        "evil__github__deploy": ("evil", "github__deploy"),
    }


def test_of_two_that_list_one_uri_the_first_server_shows_it_and_bytes_decide() -> None:
    items = all_of(ListKind.RESOURCES, {"a": ["x://1", "Soothsayer:mine"], "b": ["x://1", "X://1"]})
    kept, hidden = merge.without_clashes(items, ListKind.RESOURCES)
    assert [(item.server, item.name) for item in kept] == [("a", "x://1"), ("b", "X://1")]
    assert [(item.server, item.name, item.why) for item in hidden] == [
        ("a", "Soothsayer:mine", Hidden.RESERVED),
        ("b", "x://1", Hidden.CLAIMED),
    ]


def test_a_merged_list_in_the_handshake_era_is_the_items_and_what_pages_say_besides() -> None:
    request = frames.host('{"jsonrpc":"2.0","id":12345678901234567890123,"method":"tools/list"}')
    pages = [
        frames.server(page(ListKind.TOOLS, TOOL, more=',"nextCursor":"","x-more":1.50,"_meta":{"a":1}')),
        frames.server(page(ListKind.TOOLS, '{"name":"b"}', more=',"x-more":2')),
    ]
    told = merge.list_answer(request, ListKind.TOOLS, [TOOL.encode(), b'{"name":"x"}'], pages=pages, cut=False)
    assert told.decode() == (
        '{"jsonrpc":"2.0","id":12345678901234567890123,"result":{"tools":[' + TOOL + ',{"name":"x"}],"x-more":1.50}}'
    )


@pytest.mark.parametrize(
    ("hints", "cut", "ttl", "scope"),
    [
        (['"ttlMs":9,"cacheScope":"public"', '"ttlMs":5,"cacheScope":"public"'], False, 5, "public"),
        (['"ttlMs":9,"cacheScope":"public"', '"ttlMs":5,"cacheScope":"public"'], True, 5, "private"),
        (['"ttlMs":9,"cacheScope":"public"', '"ttlMs":5,"cacheScope":"private"'], False, 5, "private"),
        (['"ttlMs":9,"cacheScope":"public"', '"x":1'], False, 0, "private"),
        (['"ttlMs":-1,"cacheScope":"public"'], False, 0, "public"),
        (['"ttlMs":1e400,"cacheScope":"public"'], False, 0, "public"),
        ([], False, 0, "private"),
    ],
)
def test_a_merged_list_is_cached_no_longer_and_no_wider_than_any_server_says(
    hints: list[str], cut: bool, ttl: int, scope: str
) -> None:
    request = frames.host('{"jsonrpc":"2.0","id":"a","method":"tools/list"}')
    pages = [frames.server(page(ListKind.TOOLS, more="," + hint)) for hint in hints]
    told = merge.list_answer(request, ListKind.TOOLS, [], pages=pages, cut=cut, server_info=INFO)
    result = json.loads(told)["result"]
    if not pages:
        scope = "public" if not cut else "private"
    assert (result["ttlMs"], result["cacheScope"], result["resultType"]) == (ttl, scope, "complete")
    assert result["_meta"] == {"io.modelcontextprotocol/serverInfo": {"name": "soothsayer", "version": "1"}}
