"""Subscriptions: counted in the handshake era, split and joined in the stateless one."""

import json

import pytest

from proxy_parts import frames
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.proxy import subscriptions
from soothsayer_mcp.proxy.subscriptions import Listen, Listens, Watchers, split
from soothsayer_mcp.wire.frame import Frame

TAG = "io.modelcontextprotocol/subscriptionId"
TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


def request(wanted: Json, request_id: Json = "listen:0") -> Frame:
    params: Json = {"notifications": wanted, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    return frames.host({"jsonrpc": "2.0", "id": request_id, "method": "subscriptions/listen", "params": params})


def ack(took: Json, tag: Json = "listen:0") -> Frame:
    params: Json = {"notifications": took, "_meta": {TAG: tag}}
    return frames.server({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})


def notice(method: str, tag: Json = "listen:0", **params: Json) -> Frame:
    return frames.server({"jsonrpc": "2.0", "method": method, "params": {**params, "_meta": {TAG: tag}}})


def refusal(code: int = -32601) -> Frame:
    return frames.server({"jsonrpc": "2.0", "id": "listen:0", "error": {"code": code, "message": "no", "data": None}})


def owner(text: str) -> str | None:
    return text[0] if text[0] in "ab" else None


def parts_of(frame: Frame, *servers: str, refused: tuple[str, ...] = ()) -> dict[str, bytes]:
    return split(frame, servers, owner_of_uri=owner, owner_of_task=owner, refused=refused)


def listen(wanted: Json, *servers: str, own: tuple[str, ...] = (), request_id: Json = "listen:0") -> Listen:
    frame = request(wanted, request_id)
    return Listen(frame, parts_of(frame, *servers), own=own)


def said(lines: list[bytes] | None) -> list[Json]:
    assert lines is not None
    return [json.loads(line) for line in lines]


def acknowledgement(took: Json, tag: Json = "listen:0") -> Json:
    return json.loads(ack(took, tag).raw)


def test_a_resource_is_watched_until_the_last_connection_lets_go() -> None:
    kept = Watchers()
    assert kept.subscribe("c1", server="a", uri="x://1")
    assert not kept.subscribe("c2", server="a", uri="x://1")
    assert kept.subscribe("c1", server="b", uri="x://1")
    assert kept.watching("a", "x://1") == {"c1", "c2"}
    assert not kept.unsubscribe("c1", server="a", uri="x://1")
    assert kept.watched("a") == ("x://1",)
    assert kept.unsubscribe("c2", server="a", uri="x://1")
    assert kept.watched("a") == ()
    assert kept.unsubscribe("c2", server="a", uri="x://1")


def test_a_connection_that_leaves_lets_go_of_what_only_it_watched() -> None:
    kept = Watchers()
    for connection, server, uri in (("c1", "a", "x://1"), ("c1", "a", "x://2"), ("c2", "a", "x://2"), ("c1", "b", "y")):
        kept.subscribe(connection, server=server, uri=uri)
    assert kept.leave("c1") == (("a", "x://1"), ("b", "y"))
    assert kept.leave("c1") == ()
    assert kept.watched("a") == ("x://2",)


def test_an_update_of_a_part_goes_to_all_who_watch_that_server() -> None:
    kept = Watchers()
    kept.subscribe("c1", server="a", uri="x://1")
    kept.subscribe("c2", server="b", uri="y://1")
    assert kept.watching("a", "x://1/part") == {"c1"}
    assert kept.watching("c", "x://1") == frozenset()


def test_one_server_gets_the_hosts_own_bytes() -> None:
    frame = request({"toolsListChanged": True, "x": 1.5})
    told, to_host = Listen(frame, parts_of(frame, "a")).begin()
    assert told == {"a": frame.raw}
    assert to_host == []


def test_a_filter_is_split_by_owner_and_nothing_else_changes() -> None:
    frame = request(
        {
            "toolsListChanged": True,
            "promptsListChanged": False,
            "resourceSubscriptions": ["a://1", "b://1", "a://no", "c://1"],
            "taskIds": ["b7"],
            "x-more": {"n": 1.5},
        }
    )
    parts = parts_of(frame, "a", "b", refused=("a://no",))
    told, to_host = Listen(frame, parts).begin()
    assert to_host == []
    shared: Json = {"toolsListChanged": True, "x-more": {"n": 1.5}}
    sent = {server: json.loads(line) for server, line in told.items()}
    assert sent["a"]["params"]["notifications"] == {**shared, "resourceSubscriptions": ["a://1"]}
    assert sent["b"]["params"]["notifications"] == {**shared, "resourceSubscriptions": ["b://1"], "taskIds": ["b7"]}
    for server, line in told.items():
        assert line == frame.raw.replace(frame.slice(("params", "notifications")) or b"?", parts[server])


def test_a_server_that_has_nothing_to_listen_for_is_not_asked() -> None:
    assert parts_of(request({"resourceSubscriptions": ["a://1"]}), "a", "b").keys() == {"a"}


def test_policy_takes_a_uri_out_for_one_server_too() -> None:
    frame = request({"resourceSubscriptions": ["a://1", "a://no"]})
    assert parts_of(frame, "z", refused=("a://no",)) == {"z": b'{"resourceSubscriptions":["a://1"]}'}
    assert subscriptions.requested_uris(frame) == ("a://1", "a://no")


def test_with_nobody_to_ask_the_host_is_acknowledged_at_once() -> None:
    told, to_host = listen({"resourceSubscriptions": ["c://1"]}, "a", "b").begin()
    assert told == {}
    assert said(to_host) == [acknowledgement({})]


def test_the_host_gets_one_acknowledgement_first_with_the_union_of_what_was_taken() -> None:
    uris: Json = ["b://1", "a://1", "a://2"]
    stream = listen({"toolsListChanged": True, "promptsListChanged": True, "resourceSubscriptions": uris}, "a", "b")
    stream.begin()
    assert stream.acknowledged("a", ack({"toolsListChanged": True, "resourceSubscriptions": ["a://1"]})) == []
    assert stream.notice("a", notice(UPDATED, uri="a://1")) == []
    assert stream.notice("a", notice(TOOLS)) == []
    assert stream.notice("a", notice(TOOLS)) == []
    told = stream.acknowledged("b", ack({"toolsListChanged": False, "resourceSubscriptions": ["b://1"]}))
    assert said(told) == [
        acknowledgement({"resourceSubscriptions": ["b://1", "a://1"], "toolsListChanged": True}),
        json.loads(notice(UPDATED, uri="a://1").raw),
        json.loads(notice(TOOLS).raw),
    ]
    assert stream.acknowledged("b", ack({})) == []
    assert stream.notice("b", notice(TOOLS)) == [notice(TOOLS).raw]


@pytest.mark.parametrize(("host_id", "written"), [(7, "7"), ("7", 7), ("listen:0", "other"), (0, None), ("a", 0)])
def test_the_subscription_id_is_the_hosts_with_its_type(host_id: Json, written: Json) -> None:
    stream = listen({"toolsListChanged": True}, "a", request_id=host_id)
    stream.begin()
    lines = stream.acknowledged("a", ack({"toolsListChanged": True}, written))
    lines += stream.notice("a", notice(TOOLS, written)) or []
    lines += stream.ended("a", frames.result({"_meta": {TAG: written}, "resultType": "complete"}, host_id))
    tags = [message.get("params", message.get("result"))["_meta"][TAG] for message in map(json.loads, lines)]
    assert [(type(tag), tag) for tag in tags] == [(type(host_id), host_id)] * 3


@pytest.mark.parametrize("params", ['"params":{}', '"params":{"_meta":{}}', '"params":{"_meta":7}', '"x":1'])
def test_a_notice_without_a_subscription_id_gets_the_hosts(params: str) -> None:
    stream = listen({"toolsListChanged": True}, "a")
    stream.begin()
    stream.acknowledged("a", ack({"toolsListChanged": True}))
    frame = frames.server(f'{{"jsonrpc":"2.0","method":"{TOOLS}",{params}}}')
    (line,) = said(stream.notice("a", frame))
    assert isinstance(line, dict)
    assert line["params"] == {"_meta": {TAG: "listen:0"}}


def test_bytes_of_one_server_pass_unchanged_when_its_tag_is_right() -> None:
    stream = listen({"toolsListChanged": True}, "a")
    stream.begin()
    line = f'{{ "method":"{TOOLS}", "params":{{"_meta":{{"{TAG}":"listen:0","x":1.50}}}},"jsonrpc":"2.0"}}'
    taken = line.replace(TOOLS, "notifications/subscriptions/acknowledged").replace(
        '"_meta"', '"notifications":{}, "_meta"'
    )
    assert stream.acknowledged("a", frames.server(taken)) == [taken.encode()]
    assert stream.notice("a", frames.server(line)) == [line.encode()]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("notifications/prompts/list_changed", {}),
        (UPDATED, {"uri": "a://1"}),
        ("notifications/tasks", {"taskId": "a2"}),
        ("notifications/x", {}),
    ],
)
def test_what_the_host_did_not_ask_for_is_not_told(method: str, params: dict[str, Json]) -> None:
    stream = listen({"toolsListChanged": True, "taskIds": ["a1"]}, "a")
    stream.begin()
    assert stream.notice("a", notice(method, **params)) is None
    assert stream.notice("stranger", notice(TOOLS)) is None


def test_an_extensions_notice_passes_when_the_filter_asks_for_something_unknown() -> None:
    stream = listen({"x-events": True, "taskIds": ["a1"]}, "a")
    stream.begin()
    stream.acknowledged("a", ack({"x-events": True}))
    assert stream.notice("a", notice("notifications/x")) == [notice("notifications/x").raw]
    done = notice("notifications/tasks", taskId="a1", status="completed")
    assert stream.notice("a", done) == [done.raw]


def test_the_proxys_own_changes_are_told_to_those_who_asked() -> None:
    stream = listen({"toolsListChanged": True}, "a", own=("toolsListChanged", "promptsListChanged"))
    stream.begin()
    assert stream.announce(TOOLS) == []
    assert said(stream.acknowledged("a", ack({}))) == [
        acknowledgement({"toolsListChanged": True}),
        json.loads(notice(TOOLS).raw),
    ]
    assert said(stream.announce(TOOLS)) == [json.loads(notice(TOOLS).raw)]
    assert stream.announce("notifications/prompts/list_changed") == []


def test_a_server_that_refuses_to_listen_is_left_out_and_if_all_do_the_host_is_refused() -> None:
    stream = listen({"toolsListChanged": True}, "a", "b")
    stream.begin()
    assert stream.ended("b", refusal()) == []
    assert said(stream.acknowledged("a", ack({"toolsListChanged": True}))) == [
        acknowledgement({"toolsListChanged": True})
    ]
    assert not stream.closed
    alone = listen({"toolsListChanged": True}, "a", "b")
    alone.begin()
    alone.ended("b", refusal(-32603))
    assert alone.ended("a", refusal()) == [refusal().raw]
    assert alone.closed
    ours = listen({"toolsListChanged": True}, "a", own=("toolsListChanged",))
    ours.begin()
    assert said(ours.ended("a", refusal())) == [acknowledgement({"toolsListChanged": True})]


def test_a_server_that_is_done_ends_the_whole_and_the_others_are_cancelled() -> None:
    stream = listen({"toolsListChanged": True}, "a", "b", request_id=3)
    stream.begin()
    stream.acknowledged("a", ack({}, 3))
    stream.acknowledged("b", ack({}, 3))
    closing: Json = {"jsonrpc": "2.0", "id": 3, "result": {"resultType": "complete", "_meta": {TAG: 3}}}
    assert said(stream.ended("a", frames.result({}, 3))) == [closing]
    assert stream.closed
    assert stream.open_servers() == ("b",)
    assert stream.notice("b", notice(TOOLS, 3)) is None
    assert stream.ended("b", frames.result({}, 3)) == []


def test_a_dead_server_keeps_nobody_waiting_and_its_part_is_opened_again() -> None:
    stream = listen({"toolsListChanged": True}, "a", "b")
    sent, _ = stream.begin()
    stream.acknowledged("a", ack({"toolsListChanged": True}))
    assert said(stream.lost("b")) == [acknowledgement({"toolsListChanged": True})]
    assert stream.open_servers() == ("a",)
    assert stream.ended("b", refusal()) == []
    assert stream.reopen("a") is None
    assert stream.reopen("b") == sent["b"]
    assert stream.reopen("b") is None
    assert stream.acknowledged("b", ack({"toolsListChanged": True})) == []
    assert stream.notice("b", notice(TOOLS)) == [notice(TOOLS).raw]


def test_a_slow_server_is_not_waited_for_for_ever() -> None:
    stream = listen({"toolsListChanged": True}, "a", "b")
    stream.begin()
    stream.acknowledged("a", ack({"toolsListChanged": True}))
    assert said(stream.hurry()) == [acknowledgement({"toolsListChanged": True})]
    assert stream.hurry() == []
    assert stream.acknowledged("b", ack({})) == []
    assert stream.open_servers() == ("a", "b")


def test_held_notices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "HELD_LIMIT", 2)
    stream = listen({"resourceSubscriptions": ["a://1", "b://1"]}, "a", "b")
    stream.begin()
    assert stream.notice("a", notice(UPDATED, uri="a://1")) == []
    told = said(stream.notice("a", notice(UPDATED, uri="a://1/2")))
    assert told[0] == acknowledgement({})
    assert len(told) == 3


def test_a_host_that_cancels_gets_no_more_and_the_servers_are_told() -> None:
    stream = listen({"toolsListChanged": True}, "a", "b")
    stream.begin()
    assert stream.close() == ("a", "b")
    assert stream.close() == ()
    assert stream.acknowledged("a", ack({})) == []
    assert stream.announce(TOOLS) == []
    assert stream.lost("a") == []
    assert stream.reopen("a") is None


def test_a_notice_finds_its_listen_request_by_id_and_type() -> None:
    kept = Listens()
    number, text = (listen({"toolsListChanged": True}, "a", request_id=tag) for tag in (7, "7"))
    kept.add(number)
    kept.add(text)
    assert kept.of_notice("a", notice(TOOLS, 7)) is number
    assert kept.of_notice("a", notice(TOOLS, "7")) is text
    assert kept.of_notice("a", notice(TOOLS, 7.0)) is None
    assert kept.of_notice("b", notice(TOOLS, 7)) is None
    assert kept.get(7) is number
    kept.remove(text)
    assert kept.of_notice("a", notice(TOOLS, "7")) is number
    assert kept.of_notice("a", notice(TOOLS, None)) is number
    assert kept.of_notice("a", notice(TOOLS, "8")) is None
    assert list(kept) == [number]


def test_on_a_shared_connection_a_server_is_asked_under_another_id() -> None:
    frame = request({"toolsListChanged": True}, 7)
    stream = Listen(frame, parts_of(frame, "a"), leg_ids={"a": "sth-x-1"})
    kept = Listens()
    kept.add(stream)
    sent, _ = stream.begin()
    assert sent["a"] == frame.raw.replace(b'"id":7', b'"id":"sth-x-1"')
    told = kept.of_notice("a", notice(TOOLS, "sth-x-1"))
    assert told is stream
    assert said(stream.acknowledged("a", ack({}, "sth-x-1"))) == [acknowledgement({}, 7)]
    (last,) = said(stream.ended("a", frames.result({"_meta": {TAG: "sth-x-1"}}, "sth-x-1")))
    assert last == {"jsonrpc": "2.0", "id": 7, "result": {"_meta": {TAG: 7}}}


def test_ids_of_any_size_are_exact() -> None:
    stream = listen({"toolsListChanged": True}, "a", request_id=2**70)
    stream.begin()
    assert compact(2**70) in stream.acknowledged("a", ack({}, "x"))[0]
