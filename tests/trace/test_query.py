from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeding import D3A0, D3B1, NOON_US, Seed, sample, seed
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.trace.query import KEYS, Filter, FilterError, Moment, Scope, Shape, parse, term, where

MOMENT = Moment(now_us=NOON_US + 3_600_000_000)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    sample(folder).db.close()
    return folder


def found(state: Path, source: str, moment: Moment = MOMENT, *, payloads: bool = False) -> list[str]:
    with Reader(state) as reader:
        rows = list(reader.steps(parse(source), moment, limit=None, payloads=payloads))
    return sorted(f"{row.run[:4]}.{row.no}" for row in rows)


ALL = ["d3a0.1", "d3a0.2", "d3a0.3", "d3a0.4", "d3a0.5", "d3a0.6", "d3a0.7", "d3a0.8", "d3b1.1"]


@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("", ALL),
        ("run:d3b1", ["d3b1.1"]),
        ("run:d3", ALL),
        (f"run:{D3B1}", ["d3b1.1"]),
        ("run:D3B1", ["d3b1.1"]),
        ("step:d3a0.7", ["d3a0.7"]),
        (f"step:{D3A0}.7,d3b1.1", ["d3a0.7", "d3b1.1"]),
        ("server:files", ["d3a0.1", "d3a0.2", "d3a0.3", "d3a0.8", "d3b1.1"]),
        ("server:f*s", ["d3a0.1", "d3a0.2", "d3a0.3", "d3a0.8", "d3b1.1"]),
        ("server:k?s", ["d3a0.4"]),
        ("server:[f]iles", []),
        ("tool:deploy", ["d3a0.4"]),
        ("tool:k8s.deploy", ["d3a0.4"]),
        ("tool:bank.deploy", []),
        ("tool:files.write_*", ["d3a0.3"]),
        ("tool:mcp__files__write_file", ["d3a0.3"]),
        ("does:write", ["d3a0.3"]),
        ("does:write,pay", ["d3a0.3", "d3a0.5"]),
        ("does:unlabelled", ["d3a0.6"]),
        ("cause:agent -run:d3b1 tool:deploy", ["d3a0.4"]),
        ("effect:deny", ["d3a0.2"]),
        ("effect:d*", ["d3a0.2"]),
        ("would:deny", ["d3a0.7"]),
        ("-would:deny tool:run", []),
        ("rule:keys-stay-here", ["d3a0.2"]),
        ("-rule:edits-in-tree,reads", ["d3a0.2", "d3a0.6", "d3a0.7"]),
        ("outcome:unknown", ["d3a0.5"]),
        ("outcome:open", ["d3a0.8"]),
        ("acted:maybe", ["d3a0.5", "d3a0.6"]),
        ("failure:*", ["d3a0.2", "d3a0.4", "d3a0.5", "d3a0.6"]),
        ("-failure:*", ["d3a0.1", "d3a0.3", "d3a0.7", "d3a0.8", "d3b1.1"]),
        ("failure:tool_error,verification_failed", ["d3a0.4", "d3a0.6"]),
        ("reason:call_timeout", ["d3a0.5"]),
        ("finding:kept", ["d3a0.1", "d3a0.3"]),
        ("finding:broken", ["d3a0.4"]),
        ("check:schema:*", ["d3a0.1"]),
        ("principal:os:ada effect:deny", ["d3a0.2"]),
        ("-principal:os:ada", ["d3b1.1"]),
        ("host:runner", ["d3b1.1"]),
        ("policy:5c1e tool:pay", ["d3a0.5"]),
        ("policy:sha256:5c1e tool:pay", ["d3a0.5"]),
        ("policy:guarded tool:pay", ["d3a0.5"]),
        ("policy:guarded@5c1e tool:pay", ["d3a0.5"]),
        ("policy:strict@5c1e tool:pay", []),
        ("policy:ffff tool:pay", []),
        ("dur:>1s", ["d3a0.4", "d3a0.5"]),
        ("dur:>=30s", ["d3a0.4", "d3a0.5"]),
        ("dur:<1ms", ["d3a0.2"]),
        ("asked:no tool:deploy", ["d3a0.4"]),
        ("asked:yes", []),
        ("kind:step.refused", ["d3a0.2"]),
        ("kind:step.finding", ["d3a0.1", "d3a0.3", "d3a0.4"]),
        ("since:1h", ALL),
        ("since:59m", []),
        ("until:2026-11-24T10:00:03Z", ["d3a0.1", "d3a0.2"]),
        ("since:2026-11-24T10:00:08Z", ["d3a0.8", "d3b1.1"]),
        ("since:today", ALL),
        ("since:2026-11-24", ALL),
        ("until:2026-11-24", []),
        ("readback", ["d3a0.4"]),
        ("READBACK", ["d3a0.4"]),
        ('"readback:image"', ["d3a0.4"]),
        ("-readback effect:deny", ["d3a0.2"]),
        ("read_back", []),
        ("readback effect:deny", []),
    ],
)
def test_each_key_finds_the_steps_it_names_and_no_other(state: Path, source: str, steps: list[str]) -> None:
    assert found(state, source) == steps


def test_words_are_looked_for_in_what_was_said_only_when_asked(state: Path) -> None:
    assert found(state, "id_ed25519") == []
    assert found(state, "id_ed25519", payloads=True) == ["d3a0.2"]


def test_quotation_marks_and_backslashes_in_a_word_are_found_as_they_were_recorded(tmp_path: Path) -> None:
    made = seed(tmp_path)
    made.run(D3A0)
    made.step(D3A0, 'odd.say "hi" \\ 100%')
    made.step(D3A0, "odd.say hi")
    made.db.close()
    assert found(tmp_path, r'"say \"hi\" \\ 100%"') == ["d3a0.1"]


def test_today_begins_at_midnight_of_the_local_zone(state: Path) -> None:
    """10:00 UTC is yesterday 23:00 in a zone eleven hours behind, and the hour after is still yesterday."""
    behind = Moment(now_us=NOON_US + 3_600_000_000 * 2, offset_s=-11 * 3600)
    assert found(state, "since:today", behind) == ALL[:0]
    assert found(state, "since:2026-11-23", behind) == ALL


@pytest.mark.parametrize(
    ("source", "column", "id_", "near"),
    [
        ("efect:deny", 1, "query-key", "effect"),
        ("server:files fialure:x", 14, "query-key", "failure"),
        ("effect:dney", 8, "query-value", "deny"),
        ("effect:allow,dney", 14, "query-value", "deny"),
        ("-effect:dney", 9, "query-value", "deny"),
        ("effect:", 8, "query-value", ""),
        ("effect:allow,", 14, "query-value", ""),
        ("failure:policy_deny", 9, "query-value", "policy_denied"),
        ("reason:rule_dened", 8, "query-value", "rule_denied"),
        ("dur:fast", 5, "query-value", ""),
        ("dur:>", 5, "query-value", ""),
        ("risk:10s", 6, "query-value", ""),
        ("since:yesterday", 7, "query-value", ""),
        ("since:10", 7, "query-value", ""),
        ("since:2026-11-24T10:00:00", 7, "query-value", ""),
        ("run:xyz", 5, "query-value", ""),
        ("step:7", 6, "query-value", ""),
        ("server:>files", 8, "query-value", ""),
        ('"open', 1, "query-quote", ""),
        ('""', 1, "query-value", ""),
        ("http://example.test", 1, "query-key", ""),
    ],
)
def test_a_mistake_is_told_with_its_place_and_the_nearest_word(source: str, column: int, id_: str, near: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(source)
    assert (caught.value.column, caught.value.id, caught.value.near) == (column, id_, near)


def test_a_short_option_is_the_term_it_stands_for(state: Path) -> None:
    assert term("tool", "deploy") == parse("tool:deploy").terms[0]
    with pytest.raises(FilterError):
        term("effect", "dney")


def test_runs_are_chosen_by_their_own_facts_and_by_one_step_that_fits_all_the_rest(state: Path) -> None:
    with Reader(state) as reader:

        def runs(source: str) -> list[str]:
            return sorted(row.run[:4] for row in reader.runs(parse(source), MOMENT, limit=None))

        assert runs("") == ["d3a0", "d3b1"]
        assert runs("principal:token:*") == ["d3b1"]
        assert runs("effect:deny") == ["d3a0"]
        assert runs("effect:deny tool:deploy") == []
        assert runs("effect:allow tool:deploy") == ["d3a0"]
        assert runs("readback") == ["d3a0"]
        assert runs("-principal:token:ci since:1h") == ["d3a0"]


def test_entries_are_chosen_by_kind_and_through_their_step(state: Path) -> None:
    with Reader(state) as reader:

        def kinds(source: str) -> list[str]:
            return [row.kind for row in reader.entries(parse(source), MOMENT, limit=None)]

        assert kinds("kind:run.opened") == ["run.opened", "run.opened"]
        assert kinds("effect:deny") == ["step.refused"]
        assert kinds("step:d3a0.4") == ["step.outcome", "step.finding", "step.intent"]
        assert kinds("kind:step.finding finding:broken") == ["step.finding"]


def test_every_closed_word_of_every_key_is_accepted_and_finds_without_error(state: Path) -> None:
    for name, key in KEYS.items():
        for word in key.words:
            assert isinstance(found(state, f"{name}:{word}"), list)
    assert {name for name, key in KEYS.items() if key.shape is Shape.CLOSED} == {n for n, k in KEYS.items() if k.words}


NASTY = st.text(alphabet=st.sampled_from("abc'\"%_*?[]\\-:;,.<> \x00\x1b\u202e"), max_size=12)


def read_or_fault(source: str) -> Filter | FilterError:
    try:
        return parse(source)
    except FilterError as error:
        return error


@given(source=st.one_of(st.text(max_size=40), st.lists(st.sampled_from(sorted(KEYS)), max_size=3).map(":".join)))
def test_any_text_is_either_a_filter_or_one_located_mistake(source: str) -> None:
    read = read_or_fault(source)
    if isinstance(read, FilterError):
        assert 1 <= read.column <= len(source) + 1
        return
    for scope in Scope:
        condition = where(read, scope, MOMENT)
        assert condition.sql.count("?") == len(condition.params)


@given(key=st.sampled_from([name for name, key in KEYS.items() if key.shape is Shape.GLOB]), value=NASTY)
def test_no_value_is_ever_pasted_into_the_sql(key: str, value: str) -> None:
    quoted = f"zq{value}".replace("\\", "\\\\").replace('"', '\\"')
    condition = where(parse(f'{key}:"{quoted}"'), Scope.STEPS, MOMENT)
    assert "zq" not in condition.sql
    assert any("zq" in str(param) for param in condition.params)
    word = where(parse(f'"{quoted}"'), Scope.STEPS, MOMENT, payloads=True)
    assert "zq" not in word.sql


def test_the_commonest_questions_are_answered_by_an_index(tmp_path: Path) -> None:
    made: Seed = seed(tmp_path)
    made.run(D3A0)
    for source, index in (
        ("", "steps_at"),
        ("since:1h", "steps_at"),
        ("failure:tool_error", "steps_failed"),
        ("effect:deny", "steps_denied"),
        ("server:files tool:read_file", "steps_tool"),
        (f"run:{D3A0}", "sqlite_autoindex_steps_1"),
        (f"step:{D3A0}.4", "sqlite_autoindex_steps_1"),
    ):
        condition = where(parse(source), Scope.STEPS, MOMENT)
        plan = made.db.execute(
            f"EXPLAIN QUERY PLAN SELECT s.n FROM v_steps s{condition.clause} ORDER BY s.at_us DESC, s.n DESC LIMIT 50",
            condition.params,
        ).fetchall()
        steps = [row[3] for row in plan if " s " in f"{row[3]} "]
        assert any(index in step for step in steps), (source, plan)
    made.db.close()


def test_an_empty_filter_asks_for_nothing() -> None:
    assert where(Filter(), Scope.STEPS, MOMENT).clause == ""
