"""Five hundred harmless results of common servers: none is withheld, and hardly a value of them is masked."""

import hashlib
import json
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from fidelity.rig import ALLOWING, Rig, at, entries, read
from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.adapters.store.masking import mask
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.redact import Part, Redact, Redactor
from soothsayer_mcp.testing.servers import Script, result, tool
from soothsayer_mcp.wire.texts import changed

EACH: Final = 50
MASKED_LIMIT: Final = 0.001
"""The share of all values in the corpus that may be masked for nothing."""

WORDS: Final = tuple(
    word
    for line in (
        "the token bucket refills once a second; see tokens and max_tokens in the config; pin the version;",
        "keyword author password reset page; secret santa list; api key rotation policy; cookie banner;",
        "authorization code flow; bearer of news; credentials are not shown; session id; a card for Ada;",
        "private key ceremony; merge request; passing tests; token: required; password: optional; secret: none",
    )
    for word in line.split()
)
"""What is close to a secret and is none."""


def prose(chance: Random, words: int = 30) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def sha(chance: Random) -> str:
    return hashlib.sha1(chance.randbytes(8), usedforsecurity=False).hexdigest()


def stamp(chance: Random) -> str:
    return f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:15:30.123456Z"


def listing(chance: Random) -> Json:
    return "\n".join(f"-rw-r--r-- 1 ada staff {chance.randint(1, 10**7)} {stamp(chance)} file{n}.py" for n in range(9))


def source(chance: Random) -> Json:
    return (
        f"def token_count(text: str) -> int:\n    # {prose(chance, 8)}\n    tokens = tokenizer.encode(text)\n"
        f"    return len(tokens) % {chance.randint(2, 99)}\n\n\nclass PasswordField(Field):\n    widget = 'password'\n"
        "    api_key: str\n    token: Optional[str] = None\n    secret: bool\n"
    )


def commits(chance: Random) -> Json:
    return "\n".join(f"commit {sha(chance)}\nDate: {stamp(chance)}\n\n    {prose(chance, 9)}" for _ in range(4))


def issue(chance: Random) -> Json:
    number = chance.randint(1, 99_999)
    return {
        "id": chance.randint(10**8, 10**10),
        "node_id": "I_kwDO" + sha(chance)[:12],
        "number": number,
        "url": f"https://api.example.test/repos/ada/app/issues/{number}",
        "title": prose(chance, 6),
        "labels": ["bug", "auth"],
        "created_at": stamp(chance),
    }


def rows(chance: Random) -> Json:
    return [
        {
            "id": n,
            "uuid": str(uuid.UUID(bytes=chance.randbytes(16))),
            "amount": round(chance.uniform(1, 9999), 2),
            "phone": f"+49 30 {chance.randint(100_000, 999_999)}",
            "tokens": chance.randint(1, 4096),
        }
        for n in range(6)
    ]


def search(chance: Random) -> Json:
    links = [f"https://docs.example.test/{word}?page={chance.randint(1, 9)}#top" for word in chance.choices(WORDS, k=5)]
    return [{"title": prose(chance, 5), "link": link, "snippet": prose(chance, 20)} for link in links]


def page(chance: Random) -> Json:
    return f"# {prose(chance, 4)}\n\n{prose(chance, 60)}\n\n- [next](https://example.test/{sha(chance)[:8]})\n"


def pods(chance: Random) -> Json:
    return "\n".join(f"web-{sha(chance)[:10]}-{sha(chance)[:5]} 1/1 Running {n} 4d{n}h" for n in range(7))


def builds(chance: Random) -> Json:
    return {"passed": chance.randint(1, 900), "failed": 0, "duration_s": chance.random(), "log": prose(chance, 25)}


def calendar(chance: Random) -> Json:
    return [
        {"start": stamp(chance), "title": prose(chance, 3), "guests": ["ada@example.test"], "room": n} for n in (1, 2)
    ]


SERVERS: Final[tuple[Callable[[Random], Json], ...]] = (
    *(listing, source, commits, issue, rows, search, page, pods, builds, calendar),
)
"""What files, git, forges, databases, search, browsers, clusters, builds and calendars answer."""


def corpus() -> list[JsonObject]:
    chance = random.Random(8)
    return [answer_of(server(chance)) for server in SERVERS for _ in range(EACH)]


def answer_of(value: Json) -> JsonObject:
    """A text as text; data as text and as structured content, as servers do."""
    if isinstance(value, str):
        return {"content": [{"type": "text", "text": value}]}
    return {"content": [{"type": "text", "text": json.dumps(value)}], "structuredContent": {"value": value}}


def leaves(value: Json) -> int:
    """How many values there are to mask; a text counts once for each of its words."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if isinstance(value, list) else 1


def test_hardly_a_value_of_harmless_results_is_masked() -> None:
    """P-SECRET-08, but for the benchmark that prints the figure."""
    results = corpus()
    assert len(results) == 500
    masked = [mask(json.dumps(each).encode()) for each in results]
    share = sum(count for _, count in masked) / sum(map(leaves, results))
    assert share <= MASKED_LIMIT, f"{share:.4%}: " + str([kept for kept, count in masked if count][:5])


def test_hardly_a_value_of_harmless_results_is_masked_before_a_model_reads_it() -> None:
    """Where people's addresses and telephone numbers do stand, finding them is what `email` and `phone` are for."""
    redactor = Redactor([Redact(part=Part.RESULT, find=("secret", "iban", "card_number", "phone"))], LAB.scan)
    results = [each for each in corpus() if "phone" not in json.dumps(each)]
    assert len(results) >= 9 * EACH
    masked = 0
    found: list[str] = []
    for each in results:
        redaction = redactor.begin()
        text = changed(json.dumps({"result": each}), redaction, {("result",): None})
        masked += redaction.counts.total()
        found += [text[:300]] if redaction.counts else []
    share = masked / sum(map(leaves, results))
    assert share <= MASKED_LIMIT, f"{share:.4%}: {found[:5]}"


def test_no_harmless_result_is_withheld_or_changed(tmp_path: Path) -> None:
    results = [json.dumps(each, separators=(",", ":")) for each in corpus()]
    # The script fills in what stands behind a dollar sign, and there is none in the corpus.
    assert all("$" not in each for each in results)
    names = [f"get{number}" for number in range(len(results))]
    acts = {f"tool:{name}": [result(each)] for name, each in zip(names, results, strict=True)}
    policy = ALLOWING + "trace: {payloads: redacted}\n"
    with Rig(tmp_path, Script(tools=[tool(name) for name in names], on=acts), policy=policy) as rig:
        rig.host.initialize()
        asked = [rig.host.ask("tools/call", {"name": name, "arguments": {}}) for name in names[:60]]
        for number, name in enumerate(names):
            if number >= len(asked):
                asked.append(rig.host.ask("tools/call", {"name": name, "arguments": {}}))
            raw = rig.host.answer(asked[number])
            assert raw.endswith(b',"result":' + results[number].encode() + b"}")
            assert "isError" not in str(at(read(raw), "result"))
        outcomes = entries(rig.state, "step.outcome")
    assert [entry["outcome"] for entry in outcomes].count("succeeded") >= len(results)
    assert all("failure" not in entry for entry in outcomes)
