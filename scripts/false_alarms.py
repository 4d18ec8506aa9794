"""How often detectors fire on what is harmless: results of common servers, and Python's own source.

    python scripts/false_alarms.py

The results are generated, the same ones each time; the source is that of the Python that runs this. Nothing in either
is a secret, so that every find is a false alarm. Addresses and telephone numbers that do stand there are left out
where those are looked for.
"""

import hashlib
import json
import random
import sys
import sysconfig
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.adapters.store.masking import mask
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.redact import Part, Redact, Redactor
from soothsayer_mcp.policy.wording import hides, instructs, texts_of
from soothsayer_mcp.wire.texts import changed

EACH: Final = 50
LIMIT: Final = 0.001
"""The share of all values that may be found for nothing."""
SIGNS_LIMIT: Final = 0.01
"""The share of all texts that may show a sign for nothing."""
LINES: Final = 60

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
    """Words that are close to a secret and are none."""
    return " ".join(chance.choices(WORDS, k=words))


def sha(chance: Random) -> str:
    """A digest as git has them."""
    return hashlib.sha1(chance.randbytes(8), usedforsecurity=False).hexdigest()


def stamp(chance: Random) -> str:
    """A time."""
    return f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:15:30.123456Z"


def listing(chance: Random) -> Json:
    """A folder."""
    return "\n".join(f"-rw-r--r-- 1 ada staff {chance.randint(1, 10**7)} {stamp(chance)} file{n}.py" for n in range(9))


def source(chance: Random) -> Json:
    """A source file."""
    return (
        f"def token_count(text: str) -> int:\n    # {prose(chance, 8)}\n    tokens = tokenizer.encode(text)\n"
        f"    return len(tokens) % {chance.randint(2, 99)}\n\n\nclass PasswordField(Field):\n    widget = 'password'\n"
        "    api_key: str\n    token: Optional[str] = None\n    secret: bool\n"
    )


def commits(chance: Random) -> Json:
    """A log of git."""
    return "\n".join(f"commit {sha(chance)}\nDate: {stamp(chance)}\n\n    {prose(chance, 9)}" for _ in range(4))


def issue(chance: Random) -> Json:
    """An issue of a forge."""
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
    """Rows of a table."""
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
    """Results of a search."""
    links = [f"https://docs.example.test/{word}?page={chance.randint(1, 9)}#top" for word in chance.choices(WORDS, k=5)]
    return [{"title": prose(chance, 5), "link": link, "snippet": prose(chance, 20)} for link in links]


def page(chance: Random) -> Json:
    """A page of the web."""
    return f"# {prose(chance, 4)}\n\n{prose(chance, 60)}\n\n- [next](https://example.test/{sha(chance)[:8]})\n"


def pods(chance: Random) -> Json:
    """A list of a cluster."""
    return "\n".join(f"web-{sha(chance)[:10]}-{sha(chance)[:5]} 1/1 Running {n} 4d{n}h" for n in range(7))


def builds(chance: Random) -> Json:
    """A report of a build."""
    return {"passed": chance.randint(1, 900), "failed": 0, "duration_s": chance.random(), "log": prose(chance, 25)}


def calendar(chance: Random) -> Json:
    """Entries of a calendar."""
    return [
        {"start": stamp(chance), "title": prose(chance, 3), "guests": ["ada@example.test"], "room": n} for n in (1, 2)
    ]


SERVERS: Final[tuple[Callable[[Random], Json], ...]] = (
    *(listing, source, commits, issue, rows, search, page, pods, builds, calendar),
)
"""What files, git, forges, databases, search, browsers, clusters, builds and calendars answer."""


def corpus() -> list[JsonObject]:
    """The generated results, the same ones each time."""
    chance = random.Random(8)  # noqa: S311 - the same texts each time, and no secrets
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


MODULES: Final = (
    *("argparse", "csv", "datetime", "email/message", "ftplib", "getpass", "hashlib", "http/client", "http/cookiejar"),
    *("imaplib", "ipaddress", "json/decoder", "logging/config", "netrc", "secrets", "shlex", "smtplib", "ssl", "token"),
    *("tokenize", "urllib/request", "uuid", "xmlrpc/client", "zipfile"),
)
"""Modules that speak of passwords, tokens, keys, numbers and addresses."""


def sources() -> list[JsonObject]:
    """Python's own source, as a server that reads files gives it: 60 lines at a time."""
    library = Path(sysconfig.get_path("stdlib"))
    found: list[JsonObject] = []
    for module in MODULES:
        file = library / f"{module}.py"
        # A module may be a package in another version.
        text = (file if file.is_file() else library / module / "__init__.py").read_text(encoding="utf-8")
        lines = text.splitlines()
        found += [answer_of("\n".join(lines[at : at + LINES])) for at in range(0, len(lines), LINES)]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How often something was found in what is harmless."""

    what: str
    texts: int
    values: int
    found: int
    touched: int
    """Texts in which anything was found."""
    by: str
    """Of which kinds it was."""
    of_texts: bool = False
    """Whether the limit is on texts, since what is looked for is found once or not at all."""

    @property
    def share(self) -> float:
        """What is limited."""
        return self.touched / self.texts if self.of_texts else self.found / self.values

    @property
    def limit(self) -> float:
        """How much of it may be."""
        return SIGNS_LIMIT if self.of_texts else LIMIT

    @property
    def holds(self) -> bool:
        """Whether it is within the limit."""
        return self.share <= self.limit


def measure() -> list[Figure]:
    """Every figure."""
    figures: list[Figure] = []
    for name, texts in (("results", corpus()), ("source", sources())):
        figures += [_kept(name, texts), *_shown(name, texts), *_signs(name, texts)]
    return figures


def _kept(name: str, texts: Sequence[JsonObject]) -> Figure:
    masked = [mask(json.dumps(each).encode())[1] for each in texts]
    return _figure(f"{name}: masked in the trace", texts, masked, Counter())


def _shown(name: str, texts: Sequence[JsonObject]) -> Iterable[Figure]:
    for word in ("secret", "card_number", "iban", "email", "phone"):
        redactor = Redactor([Redact(part=Part.RESULT, find=(word,))], LAB.scan)
        chosen = [each for each in texts if word not in {"email", "phone"} or not _holds_contacts(each)]
        counts: list[int] = []
        kinds: Counter[str] = Counter()
        for each in chosen:
            redaction = redactor.begin()
            changed(json.dumps({"result": each}), redaction, {("result",): None})
            counts.append(redaction.counts.total())
            kinds += redaction.counts
        yield _figure(f"{name}: find {word}", chosen, counts, kinds)


def _holds_contacts(text: JsonObject) -> bool:
    said = json.dumps(text)
    return "phone" in said or "@" in said


def _signs(name: str, texts: Sequence[JsonObject]) -> Iterable[Figure]:
    for sign, shows in (("hidden_text", hides), ("instructions", instructs)):
        found = [sum(map(shows, texts_of(json.dumps(each).encode()))) for each in texts]
        yield _figure(f"{name}: {sign}", texts, found, Counter(), of_texts=True)


def _figure(
    what: str, texts: Sequence[JsonObject], found: Sequence[int], kinds: Counter[str], *, of_texts: bool = False
) -> Figure:
    return Figure(
        what=what,
        texts=len(texts),
        values=sum(map(leaves, texts)),
        found=sum(found),
        touched=sum(map(bool, found)),
        by=", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items())),
        of_texts=of_texts,
    )


def main() -> int:
    """Print every figure; exit code 1 when one is beyond its limit."""
    figures = measure()
    for one in figures:
        told = f"{one.touched} of {one.texts} texts, {one.found} of {one.values:,} values"
        judged = "" if one.holds else "  BEYOND ITS LIMIT"
        print(f"{one.what:32} {one.share:8.4%} (limit {one.limit:.1%})  {told}  {one.by}{judged}".rstrip())
    return 0 if all(one.holds for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
