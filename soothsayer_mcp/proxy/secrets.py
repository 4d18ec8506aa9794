"""Whether a server's form asks a person for a secret: by names, titles and formats of its fields."""

import re
from collections.abc import Iterator

from soothsayer_mcp.model.json import Json, JsonObject

_SECRET = re.compile(
    r"pass ?(word|wd|phrase|code)|secret|api ?key|access ?key|private ?key|credential|(^| )(otp|pin|cvv|cvc|token)($| )"
)
_GAP = re.compile(r"[^a-z0-9]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def wants_a_secret(params: JsonObject) -> bool:
    """Whether the form of an `elicitation/create` has a field for a secret; a URL has no form."""
    schema = params.get("requestedSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return False
    return any(_SECRET.search(_plain(text)) for name, field in properties.items() for text in _texts(name, field))


def _texts(name: str, field: Json) -> Iterator[str]:
    yield name
    if isinstance(field, dict):
        for member in ("title", "format"):
            text = field.get(member)
            if isinstance(text, str):
                yield text


def _plain(text: str) -> str:
    """Words of lower-case letters with one blank between them, however they were joined."""
    return _GAP.sub(" ", _HUMP.sub(" ", text).casefold())
