"""All pages of one server's list, fetched by requests of our own."""

from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.merge import PAGES_LIMIT
from soothsayer_mcp.wire.frame import Frame, FrameKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a request of our own must carry to be understood: the era and version of the request that caused it."""

    meta: JsonObject | None
    """The stateless era's `_meta`; `None` in the handshake era."""

    def params(self, cursor: str | None = None) -> JsonObject | None:
        """The params of a list request."""
        params: JsonObject = {}
        if self.meta is not None:
            params["_meta"] = self.meta
        if cursor is not None:
            params["cursor"] = cursor
        return params or None


async def pages_of(server: Downstream, method: str, envelope: Envelope) -> list[Frame]:
    """Fetch a whole list, page by page. Raises `PortError`, acted no."""
    pages: list[Frame] = []
    cursor: str | None = None
    while len(pages) < PAGES_LIMIT:
        answer = await server.ask(method, envelope.params(cursor))
        if answer.kind is not FrameKind.RESULT:
            summary = f"{server.name} answered {method} with {_error_text(answer)}"
            raise PortError(Reason.SERVER_UNREACHABLE, summary, acted=Acted.NO)
        pages.append(answer)
        cursor = next_cursor(answer)
        if cursor is None:
            return pages
    summary = f"{server.name} answers {method} on more than {PAGES_LIMIT} pages"
    raise PortError(Reason.SERVER_UNREACHABLE, summary, acted=Acted.NO)


def next_cursor(answer: Frame) -> str | None:
    """The cursor of the next page; the empty text is one."""
    result = answer.result
    cursor = result.get("nextCursor") if isinstance(result, dict) else None
    return cursor if isinstance(cursor, str) else None


def _error_text(answer: Frame) -> str:
    error = answer.error
    code = error.get("code") if isinstance(error, dict) else None
    return f"error {code}" if isinstance(code, int) else "an error"
