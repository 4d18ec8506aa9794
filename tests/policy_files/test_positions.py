import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soothsayer_mcp.adapters.policy_files.positions import Items, Pairs, examine, mark_of, plain, read
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors, Mark, nearest
from soothsayer_mcp.model.json import Json, canonical

STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines that run tests are busy: how long an example takes says nothing."""


def wrong(text: str | bytes) -> list[str]:
    with pytest.raises(LoadErrors) as raised:
        read(text if isinstance(text, bytes) else text.encode(), "f")
    return [f"{one.mark.line}:{one.mark.column} {one.id}" for one in raised.value.problems]


AMBIGUOUS = [
    *(
        "no",
        "No",
        "NO",
        "yes",
        "on",
        "Off",
        "y",
        "n",
        "Y",
        "N",
        "12:30",
        "12:30:00",
        "190:20:30",
        "0777",
        "017",
        "0o17",
    ),
    *(
        "1_000",
        "0x1_f",
        "1e3",
        "1.5e3",
        "+.5e1",
        "1.e1",
        "1E-3",
        "0b101",
        "2026-01-01",
        "2026-01-01T12:00:00Z",
        "=",
        ".5",
        "5.",
    ),
    *("+.inf", "-.Inf", ".nan", "-0x1f"),
]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_what_versions_of_yaml_read_differently_does_not_load(text: str) -> None:
    assert wrong(f"a: {text}") == ["1:4 policy-ambiguous"]
    assert plain(read(f'a: "{text}"'.encode(), "f")) == {"a": text}
    assert plain(read(f"a: |-\n  {text}\n".encode(), "f")) == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("-5", -5), ("0", 0), ("0x1f", 31), ("1.5", 1.5), ("true", True), ("False", False), ("~", None),
        ("e1", "e1"), ("+e2", "+e2"), (".e1", ".e1"),
        ("", None), ("null", None), ("a b", "a b"), ("1.2.3", "1.2.3"), ("10.0.0.0/8", "10.0.0.0/8"), ("30s", "30s"),
        ("2h", "2h"), ("a:b", "a:b"), ("'no'", "no"), ("nope", "nope"), ("1-2", "1-2"), ("9007199254740993", 2**53 + 1),
    ],
)  # fmt: skip
def test_what_all_versions_read_alike_has_its_type(text: str, value: Json) -> None:
    found = read(f"a: {text}".encode(), "f")
    assert plain(found) == {"a": value}
    assert type(plain(found)["a"]) is type(value)  # type: ignore[index, call-overload]  # it is a mapping


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: 1\nb: {c: 1,\n    c: 2}", "3:5 policy-duplicate-key"),
        ("a: &x 1", "1:4 policy-yaml"),
        ("a: [1, *x]", "1:8 policy-yaml"),
        ("a: !!str 5", "1:4 policy-yaml"),
        ("a: !x 5", "1:4 policy-yaml"),
        ("5: a", "1:1 policy-yaml"),
        ("true: a", "1:1 policy-yaml"),
        ("? [a]\n: b", "1:3 policy-yaml"),
        ("no: a", "1:1 policy-ambiguous"),
        ("a: 1\n---\nb: 2", "2:1 policy-yaml"),
        ("- a", "1:1 policy-type"),
        ("a", "1:1 policy-type"),
        ("", "1:1 policy-yaml"),
        ("a: " + "[" * 40 + "]" * 40, "1:35 policy-yaml"),
        ("a:\n\tb: 1", "2:1 policy-yaml"),
        ("a: [", "2:1 policy-yaml"),
        (b"a: 1\nb: \xff", "2:4 policy-yaml"),
        (b"a: \x01", "1:1 policy-yaml"),
        (b"a: " + b"x" * 1_048_576, "1:1 policy-yaml"),
    ],
)
def test_what_is_not_plain_yaml_is_told_with_its_place(text: str | bytes, where: str) -> None:
    assert where in wrong(text)


def test_a_path_leads_to_its_place() -> None:
    tree = read(b"a:\n  - {b: 1}\n  - c\n", "f")
    assert isinstance(tree, Pairs)
    assert isinstance(tree.get("a"), Items)
    assert mark_of(tree, ("a", 0, "b")) == Mark(line=2, column=9)
    assert mark_of(tree, ("a", 0, "b"), key=True) == Mark(line=2, column=6)
    assert mark_of(tree, ("a", 1)) == Mark(line=3, column=5)
    assert mark_of(tree, ("a", 1, 0)) == Mark(line=3, column=5)
    assert mark_of(tree, ("a", 7)) == Mark(line=2, column=3)
    assert mark_of(tree, ("z",)) == Mark(line=1, column=1)


@STEADY
@given(st.text(alphabet="ab: -[]{}\"'#&*!|>\n\t0123456789.no~\\%@`", max_size=60))
def test_any_text_loads_or_has_an_error_inside_the_file(text: str) -> None:
    found, problems = examine(text.encode(), "f")
    assert found is not None or problems
    for problem in problems:
        assert 1 <= problem.mark.line <= text.count("\n") + 2
        assert problem.mark.column >= 1
    if found is not None and not problems:
        # What loads reads the same from its JSON spelling, which all versions of YAML agree on.
        assert plain(read(canonical(plain(found)), "f")) == plain(found)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [("alow", "allow"), ("dney", "deny"), ("rulse", "rules"), ("xyz", ""), ("allowed", "allow"), ("", "")],
)
def test_the_nearest_word_has_the_fewest_slips(word: str, wanted: str) -> None:
    assert nearest(word, ["allow", "deny", "rules"]) == wanted
