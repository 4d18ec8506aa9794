"""Openings of both eras on one pipe, and lists: as they came, or less what policy hides and nothing else."""

import json
import sys
from pathlib import Path

import pytest

from fidelity.rig import ALLOWING, ERAS, WATCHING, Rig, answered, at, call, notice, read, request
from soothsayer_mcp.testing.servers import Script, error, result
from soothsayer_mcp.wire.eras import HANDSHAKE_VERSIONS

POLICIES = pytest.mark.parametrize("policy", [WATCHING, ALLOWING], ids=["observing", "enforcing"])
OPENING = (
    '{"protocolVersion":"VERSION","capabilities":{"tools":{},"logging":{ },"x-new":null,"experimental":{"a/b":{}}},'
    '"serverInfo":{"name":"raw","version":"1","title":null,"icons":[]},"instructions":"\\u0041","x-top":[1.0],"_meta":{}}'
)
DISCOVERY = (
    '{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"x/y":{}}},'
    '"ttlMs":5,"cacheScope":"public","x":null,"_meta":{}}'
)
KEPT = (
    '{"name":"kept","title":null,"inputSchema":{"type":"object","properties":{"a":{"type":"string","default":null,"x-s":null}}},'
    '"annotations":{"readOnlyHint":true,"x":1.0},"execution":{"taskSupport":"optional"},"icons":[{"src":"data:,"}],"_meta":{"v":null}}'
)
HIDDEN = '{"name":"hidden","inputSchema":{"type":"object"}}'
LAST = '{ "inputSchema" : {"type":"object","$defs":{"\\u0061":{}}}, "name":"last", "x-more":{} }'
HIDING = ALLOWING + 'rules: [{deny: "Never.", id: never, tools: "raw.hidden"}]\n'
OTHER_LISTS = {
    "resources/list": ("resources", '{"uri":"file:///a","name":"a","x":null}'),
    "resources/templates/list": ("resourceTemplates", '{"uriTemplate":"x://{y}","name":"t","size":1e3}'),
    "prompts/list": ("prompts", '{"name":"p","arguments":[],"title":null}'),
}


def initialize(version: str, request_id: str = "0") -> str:
    params = (
        f'{{"protocolVersion":"{version}","capabilities":{{"elicitation":{{}},"x":null}},'
        '"clientInfo":{"name":"h","version":"1","icons":[]},"x-member":1.0}'
    )
    return request("initialize", params, request_id)


def listing(*tools: str, more: str = "") -> str:
    """A page, oddly spelt."""
    return '{"x":null, "tools":[' + " , ".join(tools) + "]" + more + "}"


@POLICIES
def test_an_opening_passes_both_ways_as_it_was_spelt(policy: str, tmp_path: Path) -> None:
    """Nothing is clamped: what is not known yet is the server's to answer."""
    text = OPENING.replace("VERSION", "2099-01-01")
    with Rig(tmp_path, Script(on={"initialize": [result(text)]}), policy=policy) as rig:
        for version in (*HANDSHAKE_VERSIONS, "2099-01-01", ""):
            mark = len(rig.record.lines)
            rig.host.send(initialize(version))
            assert rig.host.line() == answered(text, "0")
            rig.host.send(notice("notifications/initialized", '{"_meta":{}}'))
            rig.fence()
            assert rig.told(mark)[:2] == [
                initialize(version).encode(),
                notice("notifications/initialized", '{"_meta":{}}').encode(),
            ]


@POLICIES
def test_a_probe_an_opening_and_calls_of_both_eras_are_served_on_one_pipe(policy: str, tmp_path: Path) -> None:
    on = {"initialize": [result(OPENING.replace("VERSION", "2025-06-18"))], "server/discover": [result(DISCOVERY)]}
    with Rig(tmp_path, Script(on=on), policy=policy) as rig:
        for _ in range(2):
            rig.host.send(request("server/discover", "{}", '"d"', era="stateless"))
            assert rig.host.line() == answered(DISCOVERY, '"d"')
            rig.host.send(call("echo", request_id="2", era="stateless"))
            assert '"resultType"' in rig.host.line().decode()
            rig.host.send(initialize("2025-06-18"))
            assert rig.host.line() == answered(OPENING.replace("VERSION", "2025-06-18"), "0")
            rig.host.send(notice("notifications/initialized", None))
            rig.host.send(call("echo", request_id="3"))
            assert '"resultType"' not in rig.host.line().decode()


@POLICIES
def test_a_server_of_the_handshake_era_refuses_a_probe_itself(policy: str, tmp_path: Path) -> None:
    refusal = '{"code":-32601,"message":"what?","data":{"x":null}}'
    with Rig(tmp_path, Script(on={"server/discover": [error(refusal)]}), policy=policy) as rig:
        rig.host.send(request("server/discover", "{}", '"d"', era="stateless"))
        assert rig.host.line() == f'{{"jsonrpc":"2.0","id":"d","error":{refusal}}}'.encode()
        rig.host.initialize()
        assert rig.host.call("echo")["result"]


def test_arrays_are_legal_in_the_one_version_that_has_them(tmp_path: Path) -> None:
    script = Script(version="")
    with Rig(tmp_path, script, policy=ALLOWING) as rig:
        rig.host.send(initialize("2025-03-26"))
        rig.host.line()
        rig.host.send(f"[{call('echo', request_id='1')},{request('ping', None, '2')},{call('none', request_id='3')}]")
        answers = read(b'{"all":' + rig.host.line() + b"}")["all"]
        assert isinstance(answers, list)
        assert sorted(str(at(answer, "id")) for answer in answers) == ["1", "2", "3"]
        # One element that does not read in one way spoils no other.
        rig.host.send(f"[{request('ping', None, '4')},{{}},{request('ping', None, '5').replace('}', ',') + chr(34)}]")
        assert at(read(rig.host.line()), "error", "code") == -32700
        rig.host.send(f"[{request('ping', None, '4')},{{}}]")
        answers = read(b'{"all":' + rig.host.line() + b"}")["all"]
        assert isinstance(answers, list)
        assert sorted(str(at(answer, "id")) for answer in answers) == ["4", "None"]
        # A later opening in another version ends it.
        rig.host.send(initialize("2025-11-25"))
        rig.host.line()
        mark = len(rig.record.lines)
        rig.host.send(f"[{call('echo', request_id='1')}]")
        refused = read(rig.host.line())
        assert (at(refused, "error", "code"), refused["id"]) == (-32600, None)
        rig.fence()
        assert len(rig.told(mark)) == 1


@pytest.mark.parametrize("policy", [WATCHING, ALLOWING, HIDING], ids=["observing", "enforcing", "hiding"])
def test_a_list_of_tools_loses_what_policy_hides_and_nothing_else(policy: str, tmp_path: Path) -> None:
    more = ',"ttlMs":60000,"cacheScope":"public","resultType":"complete","_meta":{"a":1E5}'
    text = listing(KEPT, HIDDEN, LAST, more=more)
    with Rig(tmp_path, Script(on={"tools/list": [result(text)]}), policy=policy) as rig:
        rig.host.initialize()
        if policy is HIDING:
            text = listing(KEPT, LAST, more=more.replace("public", "private"))
        for era in ERAS:
            rig.host.send(request("tools/list", None, "7", era=era))
            assert squeezed(rig.host.line()) == squeezed(answered(text, "7"))


def squeezed(line: bytes) -> bytes:
    """Where a whole element was cut out, the blanks around it are nobody's."""
    return line.replace(b"} , {", b"},{").replace(b"} ,{", b"},{").replace(b"}, {", b"},{")


PAGING = """
import json, sys
pages = json.loads(sys.argv[1])
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    text = json.dumps({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "raw"}})
    if message["method"] == "tools/list":
        text = pages[json.dumps(message.get("params", {}).get("cursor"))]
    print('{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(message["id"]), text), flush=True)
"""


@pytest.mark.parametrize("policy", [WATCHING, ALLOWING, HIDING], ids=["observing", "enforcing", "hiding"])
def test_pages_are_asked_for_and_passed_as_they_are(policy: str, tmp_path: Path) -> None:
    """The empty cursor is one as any other; what policy shapes is private on every page of it."""
    more = ',"resultType":"complete","cacheScope":"public"'
    pages = {
        "null": listing(KEPT, more=more + ',"nextCursor":""'),
        '""': listing(LAST, HIDDEN, more=more + ',"nextCursor":"S+/="'),
        '"S+/="': listing(more=more),
    }
    with Rig(tmp_path, policy=policy, command=[sys.executable, "-c", PAGING, json.dumps(pages)]) as rig:
        rig.host.initialize()
        for era in ERAS:
            for cursor, page in pages.items():
                rig.host.send(
                    request("tools/list", "{}" if cursor == "null" else f'{{"cursor":{cursor}}}', "7", era=era)
                )
                kept = page.replace(f" , {HIDDEN}", "").replace('"public"', '"private"') if policy is HIDING else page
                assert rig.host.line() == answered(kept, "7")


@POLICIES
def test_every_other_list_passes_as_it_came(policy: str, tmp_path: Path) -> None:
    lists = {
        method: f'{{"resultType":"complete","{member}":[{item} , {item}],"nextCursor":null,"x":1.0}}'
        for method, (member, item) in OTHER_LISTS.items()
    }
    on = {method: [result(text)] for method, text in lists.items()}
    with Rig(tmp_path, Script(on=on), policy=policy) as rig:
        rig.host.initialize()
        for method, text in lists.items():
            for era in ERAS:
                rig.host.send(request(method, '{"cursor":""}', "7", era=era))
                assert rig.host.line() == answered(text, "7")


@pytest.mark.parametrize(
    "page",
    [
        f'{{"tools":[{HIDDEN},null,7]}}',
        f'{{"tools":[{HIDDEN}],"tools":[]}}',
        '{"tools":{}}',
        f'{{"tools":[{HIDDEN}],"x":"\\ud800"}}',
        "{}",
        "null",
    ],
)
def test_a_list_that_cannot_be_read_is_never_passed_unfiltered(page: str, tmp_path: Path) -> None:
    with Rig(tmp_path, Script(on={"tools/list": [result(page)]}), policy=HIDING) as rig:
        rig.host.initialize()
        rig.host.send(request("tools/list", None, "7"))
        came = rig.host.line()
        assert b"hidden" not in came
        assert read(came)["id"] == 7
        rig.fence()
