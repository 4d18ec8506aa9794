"""Which of several servers owns a resource. Values in, names out: nothing is read or asked here.

URIs are compared as they are written, never rewritten or folded. Claims are weighed in this order: a server's list, a
link or embedded resource in one of its results, an answer it gave when asked, a template. Within one kind, the first
server in the order of the configuration has it. A list comes before a link because the text of a result can be
written by a stranger, and must not draw reads away from the server that offers the resource.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass

OWN_SCHEME = "soothsayer:"

RESULTS = "soothsayer://result/"
"""Where stored results are: `RUN.NO`, and `?offset=N&size=N` for a part."""
DIGEST = "soothsayer://run/digest"
"""Where what a run has come to is told in short."""

NOT_MINE = frozenset({-32602, -32002})
"""Error codes of `resources/read` that mean "no such resource here": the next server is asked."""

LINKED_LIMIT = 10_000
"""URIs remembered per server from its results; the oldest are forgotten first."""

URI_LIMIT = 8_192
VARIABLES_LIMIT = 32
"""Longer URIs match no template, and larger templates match no URI: matching costs their product."""


class TemplateError(ValueError):
    """A URI template that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One stretch of a template: a literal, or a variable part."""

    literal: str = ""
    lead: str = ""
    """What an operator puts before its value; the whole part may then be absent."""
    stops: str = ""
    """Characters that end the value."""


_OPERATORS = {
    "+": ("", ""),
    "#": ("#", ""),
    ".": (".", "/?#"),
    "/": ("/", "/?#"),
    ";": (";", "/?#"),
    "?": ("?", "#"),
    "&": ("&", "#"),
}


class Template:
    """A URI template that can say whether a URI could come from it.

    All operators of RFC 6570 are read. Matching is wider than expansion: values may hold what servers accept in
    practice (`:` and `,` unescaped), and a query is not checked for its names. It never backtracks.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        """Read a template. Raises `TemplateError`."""
        self.text = text
        self._parts = tuple(_parts(text))

    def matches(self, uri: str) -> bool:
        """Tell whether the whole of `uri` fits."""
        if len(uri) > URI_LIMIT:
            return False
        reached = {0}
        for part in self._parts:
            if part.literal:
                reached = {at + len(part.literal) for at in reached if uri.startswith(part.literal, at)}
            elif part.lead:
                starts = {at + 1 for at in reached if uri.startswith(part.lead, at)}
                reached |= starts | _stretches(uri, starts, part.stops)
            else:
                reached = _stretches(uri, reached, part.stops)
            if not reached:
                return False
        return len(uri) in reached


def _parts(text: str) -> Iterator[_Part]:
    rest = text
    variables = 0
    while rest:
        literal, brace, rest = rest.partition("{")
        if "}" in literal:
            raise TemplateError(f"a brace is closed that was not opened in {text!r}")
        if literal:
            yield _Part(literal=literal)
        if not brace:
            return
        expression, brace, rest = rest.partition("}")
        if not brace or not expression or "{" in expression:
            raise TemplateError(f"a brace is not closed, or closed at once, in {text!r}")
        variables += 1 + expression.count(",")
        if variables > VARIABLES_LIMIT:
            raise TemplateError(f"more than {VARIABLES_LIMIT} variables")
        lead, stops = _OPERATORS.get(expression[0], ("", "/?#"))
        if expression[0] == "/" and ("," in expression or expression.endswith("*")):
            stops = "?#"
        yield _Part(lead=lead, stops=stops)


def _stretches(uri: str, starts: Iterable[int], stops: str) -> set[int]:
    """Tell every place that a value of at least one character can end at."""
    ends: set[int] = set()
    done = 0
    for start in sorted(starts):
        # Stretches that overlap end at the same stop, so each character is looked at once.
        at = max(start, done)
        while at < len(uri) and uri[at] not in stops:
            at += 1
        ends.update(range(max(start, done) + 1, at + 1))
        done = max(done, at)
    return ends


def is_own(uri: str) -> bool:
    """Tell whether a URI is the proxy's own; schemes have no case."""
    return uri[: len(OWN_SCHEME)].lower() == OWN_SCHEME


def result_uri(run: str, no: int) -> str:
    """The address of a stored result."""
    return f"{RESULTS}{run}.{no}"


def is_not_mine(code: Json) -> bool:
    """Tell whether an error to `resources/read` only says that the resource lives elsewhere."""
    return isinstance(code, int) and not isinstance(code, bool) and code in NOT_MINE


class Owners:
    """The map from URIs to servers, for one host connection."""

    def __init__(self, servers: Sequence[str]) -> None:
        """Know the servers, in the order of the configuration."""
        self._servers = tuple(servers)
        self._listed: dict[str, frozenset[str]] = {}
        self._templates: dict[str, tuple[Template, ...]] = {}
        self._linked: dict[str, OrderedDict[str, None]] = {name: OrderedDict() for name in servers}
        self._answered: dict[str, OrderedDict[str, None]] = {name: OrderedDict() for name in servers}

    def learn_listed(self, server: str, uris: Iterable[str]) -> None:
        """Take what a server lists now, all pages, in place of what it listed before."""
        self._listed[server] = frozenset(uris)

    def learn_templates(self, server: str, templates: Iterable[str]) -> tuple[str, ...]:
        """Take the templates a server lists now; tells those that cannot be read and so match nothing."""
        readable: list[Template] = []
        unreadable: list[str] = []
        for text in templates:
            try:
                readable.append(Template(text))
            except TemplateError:
                unreadable.append(text)
        self._templates[server] = tuple(readable)
        return tuple(unreadable)

    def learn_result(self, server: str, result: Json) -> None:
        """Remember the URIs that a result of a server names, by link or embedded."""
        _remember(self._linked[server], linked_uris(result))

    def learn_answer(self, server: str, uri: str) -> None:
        """Remember that a server, asked for a resource nobody claimed, had it."""
        _remember(self._answered[server], (uri,))

    def void_lists(self, server: str) -> None:
        """Forget what a server listed: it said that its lists changed, or it was started again."""
        self._listed.pop(server, None)
        self._templates.pop(server, None)
        self._answered[server].clear()

    def owner(self, uri: str) -> str | None:
        """Name the server that a URI belongs to; `None` when nobody claims it."""
        claims: tuple[Mapping[str, Iterable[str]], ...] = (self._listed, self._linked, self._answered)
        for claim in claims:
            for server in self._servers:
                if uri in claim.get(server, ()):
                    return server
        for server in self._servers:
            if any(template.matches(uri) for template in self._templates.get(server, ())):
                return server
        return None

    def template_owner(self, text: str) -> str | None:
        """Name the server that `completion/complete` means by a template, or by a URI."""
        for server in self._servers:
            if any(template.text == text for template in self._templates.get(server, ())):
                return server
        return self.owner(text)

    def candidates(self, uri: str, having: Iterable[str]) -> tuple[str, ...]:
        """Say whom to ask for a URI, in order: its owner alone, else every server in `having`.

        The first answer that is no `is_not_mine` error counts. Empty for a URI of our own.
        """
        if is_own(uri):
            return ()
        owner = self.owner(uri)
        if owner is not None:
            return (owner,)
        able = frozenset(having)
        return tuple(server for server in self._servers if server in able)


def linked_uris(result: Json) -> Iterator[str]:
    """Find the URIs that a result of `tools/call`, `prompts/get` or `resources/read` names."""
    if not isinstance(result, Mapping):
        return
    yield from _uris(result.get("contents"))
    yield from _block_uris(result.get("content"))
    messages = result.get("messages")
    if isinstance(messages, list):
        for message in messages:
            if isinstance(message, Mapping):
                yield from _block_uris(message.get("content"))


def _block_uris(content: Json) -> Iterator[str]:
    # A prompt's message has one block, a tool's result a list of them.
    blocks = content if isinstance(content, list) else [content]
    for block in blocks:
        if isinstance(block, Mapping):
            match block.get("type"):
                case "resource_link":
                    yield from _uris([block])
                case "resource":
                    yield from _uris([block.get("resource")])
                case _:
                    pass


def _uris(values: Json) -> Iterator[str]:
    if isinstance(values, list):
        for value in values:
            if isinstance(value, Mapping):
                uri = value.get("uri")
                if isinstance(uri, str) and not is_own(uri):
                    yield uri


def _remember(kept: OrderedDict[str, None], uris: Iterable[str]) -> None:
    for uri in uris:
        kept[uri] = None
        kept.move_to_end(uri)
        if len(kept) > LINKED_LIMIT:
            kept.popitem(last=False)
