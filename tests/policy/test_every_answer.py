"""Every matcher and every way to an argument: what it answers, for an allow and for everything else, to the last word.

An allow wants all readings of a value, everything else wants one; a doubt tells why.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pytest

from policy_kit import ADA, HOST, NOW_US, policy_from
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.answers import Unsure
from soothsayer_mcp.policy.match import Bench, prepare_argument
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.scene import Scene

Said: TypeAlias = bool | str
"""Yes, no, or why it is in doubt."""

NO_TEXT = "the value is no text"
NO_NUMBER = "the value is no number"
NO_SCALAR = "the value is an object or a list"
NO_LIST = "the value is no list"
NO_WORDS = "the value is neither a command nor a list of words"
BLANK = "the address holds a blank, a control character or a backslash"
NOT_YET = "arguments are not known yet"
NO_OBJECT_WAY = "the way to the argument leads through something that is no object"
NO_LIST_WAY = "the way to the argument leads through something that is no list"
NOT_ONE = "the text is not one command: it holds an operator, a substitution or a line break"
DEEP = "the text holds JSON that is nested too deep to read"
HALF_PAIR = "the text holds half of a surrogate pair"
HALF = "the text holds half a character"

ANSWERS: Sequence[tuple[str, JsonObject, Sequence[tuple[JsonObject | None, Said, Said]]]] = [
    (
        "x",
        {"is": "a"},
        [
            ({"x": "a"}, True, True),
            ({"x": "b"}, False, False),
            ({"x": 1}, False, False),
            ({"x": None}, False, False),
            ({"x": {}}, NO_SCALAR, NO_SCALAR),
            ({"x": []}, False, False),
            ({"x": ["a"]}, True, True),
            ({"x": ["a", "b"]}, False, True),
        ],
    ),
    (
        "x",
        {"is": None},
        [
            ({"x": None}, True, True),
            ({"x": ""}, False, False),
            ({"x": False}, False, False),
        ],
    ),
    (
        "x",
        {"in": ["a", 1, None, True]},
        [
            ({"x": "a"}, True, True),
            ({"x": "b"}, False, False),
            ({"x": 1}, True, True),
            ({"x": 1.0}, True, True),
            ({"x": True}, True, True),
            ({"x": None}, True, True),
            ({"x": {}}, NO_SCALAR, NO_SCALAR),
            ({"x": 2}, False, False),
        ],
    ),
    (
        "x",
        {"min": 2},
        [
            ({"x": 2}, True, True),
            ({"x": 1}, False, False),
            ({"x": True}, NO_NUMBER, NO_NUMBER),
            ({"x": "2"}, NO_NUMBER, NO_NUMBER),
            ({"x": None}, NO_NUMBER, NO_NUMBER),
            ({"x": {}}, NO_NUMBER, NO_NUMBER),
        ],
    ),
    (
        "x",
        {"max": 2},
        [
            ({"x": 2}, True, True),
            ({"x": 3}, False, False),
        ],
    ),
    (
        "x",
        {"above": 2},
        [
            ({"x": 2}, False, False),
            ({"x": 3}, True, True),
        ],
    ),
    (
        "x",
        {"below": 2},
        [
            ({"x": 2}, False, False),
            ({"x": 1}, True, True),
        ],
    ),
    (
        "x",
        {"max_chars": 2},
        [
            ({"x": "ab"}, True, True),
            ({"x": "abc"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
        ],
    ),
    (
        "x",
        {"max_items": 2},
        [
            ({"x": [1, 2]}, True, True),
            ({"x": [1, 2, 3]}, False, False),
            ({"x": "ab"}, NO_LIST, NO_LIST),
            ({"x": {}}, NO_LIST, NO_LIST),
        ],
    ),
    (
        "x",
        {"matches": ["a+", "b"]},
        [
            ({"x": "aa"}, True, True),
            ({"x": "b"}, True, True),
            ({"x": "c"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "\ud800"}, HALF, HALF),
        ],
    ),
    (
        "x",
        {"under": "/w"},
        [
            ({"x": "/w/a"}, True, True),
            ({"x": "/w"}, True, True),
            ({"x": "/v/a"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "/w/../v"}, False, False),
        ],
    ),
    (
        "x",
        {"glob": "/w/*.py"},
        [
            ({"x": "/w/a.py"}, True, True),
            ({"x": "/w/a/b.py"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
        ],
    ),
    (
        "x",
        {"host": "*.a.test"},
        [
            ({"x": "https://b.a.test/"}, True, True),
            ({"x": "https://c.test/"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "no address"}, BLANK, BLANK),
        ],
    ),
    (
        "x",
        {"scheme": ["https", "ssh"]},
        [
            ({"x": "HTTPS://a.test"}, True, True),
            ({"x": "http://a.test"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "none"}, "the address has no scheme", "the address has no scheme"),
        ],
    ),
    (
        "x",
        {"port": [443, 8080]},
        [
            ({"x": "https://a.test"}, True, True),
            ({"x": "https://a.test:8080/"}, True, True),
            ({"x": "http://a.test"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "ssh2://a.test/"}, "the address tells no port", "the address tells no port"),
            ({"x": "no address"}, BLANK, BLANK),
        ],
    ),
    (
        "x",
        {"cidr": "127.0.0.0/8"},
        [
            ({"x": "http://127.0.0.1/"}, True, True),
            ({"x": "http://localhost/"}, False, True),
            ({"x": "http://10.0.0.1/"}, False, False),
            ({"x": "http://a.test/"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "no address"}, BLANK, BLANK),
        ],
    ),
    (
        "x",
        {"email_domain": "a.test"},
        [
            ({"x": "u@a.test"}, True, True),
            ({"x": "u@b.test"}, False, False),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "nobody"}, "the text is not exactly one mail address", "the text is not exactly one mail address"),
        ],
    ),
    (
        "x",
        {"argv0": "git"},
        [
            ({"x": "git log"}, True, True),
            ({"x": "rm x"}, False, False),
            ({"x": ["git", "log"]}, True, True),
            ({"x": ["rm"]}, False, False),
            ({"x": []}, False, False),
            ({"x": ["git", 1]}, NO_WORDS, NO_WORDS),
            ({"x": 1}, NO_WORDS, NO_WORDS),
            ({"x": "git log; rm"}, NOT_ONE, NOT_ONE),
        ],
    ),
    (
        "x",
        {"argv": ["git log", "ls"]},
        [
            ({"x": "git log -1"}, True, True),
            ({"x": "ls"}, True, True),
            ({"x": "git push"}, False, False),
            ({"x": 1}, NO_WORDS, NO_WORDS),
        ],
    ),
    (
        "x",
        {"no_flags": ["--force", "-f"]},
        [
            ({"x": "git push"}, True, True),
            ({"x": "git push --force"}, False, False),
            ({"x": "git push -f"}, False, False),
            ({"x": "git push -xf"}, "-xf may hold -f", "-xf may hold -f"),
            ({"x": 1}, NO_WORDS, NO_WORDS),
        ],
    ),
    (
        "x",
        {"no_shell_syntax": True},
        [
            ({"x": "git log"}, True, True),
            ({"x": "git log; ls"}, False, False),
            ({"x": ["git", "a"]}, True, True),
            ({"x": ["git", "a;b"]}, False, False),
            ({"x": []}, True, True),
            ({"x": ["a", 1]}, NO_WORDS, NO_WORDS),
            ({"x": 1}, NO_WORDS, NO_WORDS),
            ({"x": {}}, NO_WORDS, NO_WORDS),
        ],
    ),
    (
        "x",
        {"find": "email"},
        [
            ({"x": "u@a.test"}, True, True),
            ({"x": "nobody"}, False, False),
            ({"x": 1}, False, False),
            ({"x": None}, NO_TEXT, NO_TEXT),
            ({"x": {}}, NO_TEXT, NO_TEXT),
            ({"x": True}, NO_TEXT, NO_TEXT),
            ({"x": "\ud800 u@a.test"}, HALF_PAIR, HALF_PAIR),
        ],
    ),
    (
        "x",
        {"find": "card_number"},
        [
            ({"x": 4111111111111111}, True, True),
            ({"x": "4111 1111 1111 1111"}, True, True),
            ({"x": 4111111111111112}, False, False),
            ({"x": -4111111111111111}, NO_TEXT, NO_TEXT),
            ({"x": 10**40}, NO_TEXT, NO_TEXT),
            ({"x": 0}, False, False),
            ({"x": "\ud800 4111111111111111"}, HALF_PAIR, HALF_PAIR),
        ],
    ),
    (
        "x",
        {"not": {"is": "a"}},
        [
            ({"x": "a"}, False, False),
            ({"x": "b"}, True, True),
            ({"x": {}}, NO_SCALAR, NO_SCALAR),
        ],
    ),
    (
        "x",
        {"any_of": [{"is": "a"}, {"min": 3}]},
        [
            ({"x": "a"}, True, True),
            ({"x": 4}, True, True),
            ({"x": 2}, False, False),
            ({"x": "b"}, NO_NUMBER, NO_NUMBER),
            ({"x": {}}, NO_SCALAR, NO_SCALAR),
        ],
    ),
    (
        "x",
        {"not": {"max_items": 1}},
        [
            ({"x": ["a"]}, False, False),
            ({"x": ["a", "b"]}, True, True),
            ({"x": "a"}, NO_LIST, NO_LIST),
        ],
    ),
    (
        "x",
        {"any_of": [{"max_items": 1}, {"argv0": "git"}]},
        [
            ({"x": ["git", "x"]}, True, True),
            ({"x": ["x", "y"]}, False, False),
            ({"x": "git"}, True, True),
            ({"x": ["x"]}, True, True),
        ],
    ),
    (
        "x",
        {"min": 1, "max": 3},
        [
            ({"x": 2}, True, True),
            ({"x": 4}, False, False),
            ({"x": 0}, False, False),
            ({"x": "a"}, NO_NUMBER, NO_NUMBER),
        ],
    ),
    (
        "x",
        {"min": 1, "matches": "a"},
        [
            ({"x": "a"}, NO_NUMBER, NO_NUMBER),
            ({"x": 1}, NO_TEXT, NO_TEXT),
            ({"x": "b"}, False, False),
        ],
    ),
    (
        "x",
        {"is": "a"},
        [
            ({"x": '["a"]'}, False, True),
            ({"x": '["a","b"]'}, False, True),
            ({"x": '{"k":"a"}'}, False, True),
            ({"x": '["[\\"a\\"]"]'}, False, True),
            ({"x": '["[\\"[\\\\\\"a\\\\\\"]\\"]"]'}, False, False),
            ({"x": ' "a"'}, False, False),
            ({"x": "[1"}, False, False),
            ({"x": "[" * 100_000}, False, "a text holds JSON that is nested too deep to read"),
            ({"x": '["a", "[[[[["]'}, False, True),
        ],
    ),
    (
        "x",
        {"min": 1},
        [
            ({"x": "[5]"}, NO_NUMBER, True),
            ({"x": '["5"]'}, NO_NUMBER, NO_NUMBER),
            ({"x": f"[{'9' * 399}]"}, NO_NUMBER, True),
            ({"x": f"[{'9' * 400}]"}, NO_NUMBER, True),
            ({"x": f"[{'9' * 5000}]"}, NO_NUMBER, True),
            ({"x": "[0, 0.5]"}, False, NO_NUMBER),
        ],
    ),
    (
        "x",
        {"present": True},
        [
            ({"x": None}, True, True),
            ({"x": "a"}, True, True),
            ({}, False, False),
        ],
    ),
    (
        "x",
        {"present": False},
        [
            ({"x": 1}, False, False),
            ({}, True, True),
        ],
    ),
    (
        "x",
        {"present": True, "is": "a"},
        [
            ({"x": "a"}, True, True),
            ({"x": "b"}, False, False),
        ],
    ),
    (
        "x",
        {"is": "a"},
        [
            ({}, False, False),
        ],
    ),
    (
        "x",
        {"is": "a", "absent": "ok"},
        [
            ({}, True, True),
        ],
    ),
    (
        "x",
        {"present": False, "absent": "ok", "is": "a"},
        [
            ({}, True, True),
        ],
    ),
    (
        "x.y",
        {"is": "a"},
        [
            ({"x": {"y": "a"}}, True, True),
            ({"x": {}}, False, False),
            ({}, False, False),
            ({"x": "t"}, NO_OBJECT_WAY, NO_OBJECT_WAY),
            ({"x": ["a"]}, NO_OBJECT_WAY, NO_OBJECT_WAY),
        ],
    ),
    (
        "x.0",
        {"is": "a"},
        [
            ({"x": ["a", "b"]}, True, True),
        ],
    ),
    (
        "x.1",
        {"is": "a"},
        [
            ({"x": ["b", "a"]}, True, True),
        ],
    ),
    (
        "x.2",
        {"is": "a"},
        [
            ({"x": ["a", "a"]}, False, False),
        ],
    ),
    (
        "x.0",
        {"is": "a"},
        [
            ({"x": {"0": "a"}}, True, True),
        ],
    ),
    (
        "x[*]",
        {"is": "a"},
        [
            ({"x": ["a", "b"]}, False, True),
            ({"x": "a"}, NO_LIST_WAY, NO_LIST_WAY),
        ],
    ),
    (
        "x[*].y",
        {"is": "a"},
        [
            ({"x": [{"y": "a"}, {"y": "b"}]}, False, True),
            ({"x": [{"y": "a"}, {}]}, False, True),
            ({"x": []}, False, False),
        ],
    ),
    (
        "x[*][*]",
        {"is": "a"},
        [
            ({"x": [["a"], ["a", "b"]]}, False, True),
        ],
    ),
    (
        "/x~1y",
        {"is": "a"},
        [
            ({"x/y": "a"}, True, True),
        ],
    ),
    (
        "/x/y",
        {"is": "a"},
        [
            ({"x": {"y": "a"}}, True, True),
        ],
    ),
    (
        "/x~0y",
        {"is": "a"},
        [
            ({"x~y": "a"}, True, True),
        ],
    ),
    (
        "x | y",
        {"is": "a"},
        [
            ({"y": "a"}, True, True),
            ({"x": "b", "y": "a"}, False, True),
        ],
    ),
    (
        "x.²",
        {"is": "a"},
        [
            ({"x": ["a"]}, NO_OBJECT_WAY, NO_OBJECT_WAY),
        ],
    ),
    (
        "x.٣",
        {"is": "a"},
        [
            ({"x": ["a"]}, NO_OBJECT_WAY, NO_OBJECT_WAY),
        ],
    ),
    (
        "**",
        {"is": "a"},
        [
            ({"x": "a"}, True, True),
            ({"x": {"a": 1}}, True, True),
            ({"x": ["b", {"k": ["a"]}]}, False, True),
            ({}, False, False),
            ({"x": 1}, False, False),
            ({"x": "a", "y": "b"}, False, True),
        ],
    ),
    (
        "**",
        {"is": "a", "absent": "ok"},
        [
            ({}, True, False),
        ],
    ),
    (
        "**",
        {"host": "a.test"},
        [
            ({"x": "no address", "y": "https://a.test"}, BLANK, True),
            ({"x": "no address"}, BLANK, False),
        ],
    ),
    (
        "x",
        {"is": "a"},
        [
            (None, NOT_YET, NOT_YET),
        ],
    ),
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return policy_from("default: ask\n", tmp_path_factory.mktemp("policy"))


def said(policy: Policy, key: str, spec: Mapping[str, Json], arguments: JsonObject | None, *, every: bool) -> Said:
    test = prepare_argument(key, spec, Bench(place=policy.place_of("fs"), lab=policy.lab, every=every))
    answer = test.answer(
        Scene(arguments=arguments, principal=ADA, client=HOST, cause=Cause.AGENT, now_us=NOW_US, links={})
    )
    return answer.why if isinstance(answer, Unsure) else answer


@pytest.mark.parametrize(
    ("key", "spec", "cases"),
    ANSWERS,
    ids=[f"{number}-{key}-{'-'.join(spec)}" for number, (key, spec, _) in enumerate(ANSWERS)],
)
def test_an_argument_is_answered_to_the_last_word(
    key: str, spec: JsonObject, cases: Sequence[tuple[JsonObject | None, Said, Said]], policy: Policy
) -> None:
    for arguments, allowed, otherwise in cases:
        assert said(policy, key, spec, arguments, every=True) == allowed, arguments
        assert said(policy, key, spec, arguments, every=False) == otherwise, arguments
