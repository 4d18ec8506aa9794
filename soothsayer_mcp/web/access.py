"""Who may look and answer: one address on this machine, a link that serves once, a cookie, and a token in every form.

Pages of the same machine, of other accounts and of the web reach a local port as the person's browser does. So nothing
is served to a request that was not addressed here by name, nothing is changed by one that another page sent, and the
cookie is for a path that only the person's browser was told: browsers send cookies to every port of a machine.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soothsayer_mcp.model.value import dataclass

COOKIE: Final = "soothsayer"
IDLE_S: Final = 8 * 3600.0
"""A session that was not used for so long has ended."""
MOST_SESSIONS: Final = 16
MOST_BODY: Final = 64 * 1024
MOST_FIELDS: Final = 300
FORM_TOKEN: Final = "form"  # noqa: S105 - the name of a field
"""The field of every form that carries the token of the session."""
LOGIN: Final = "/login"
OPEN: Final = (LOGIN, "/static/")
"""What is served to a browser that is not signed in."""

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: with it browsers send `Origin: null` with a form of ours, as a page elsewhere would.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Session:
    """One browser that is signed in."""

    __slots__ = ("form", "notice", "used_s")

    def __init__(self, now_s: float) -> None:
        """A new one, with a token for its forms."""
        self.form = secrets.token_urlsafe(32)
        self.used_s = now_s
        self.notice = ""
        """What the next page says of the last answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that goes no further."""

    status: int
    text: str


class Access:
    """The sessions of one running `ui`, and the link to begin one."""

    def __init__(self, port: int, *, now_s: Callable[[], float] = time.time, base: str = "") -> None:
        """Nobody is signed in. `base` is the path below which everything lies; a random one unless given."""
        self.base = base or f"/{secrets.token_urlsafe(12)}"
        self.hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        self.address = f"http://127.0.0.1:{port}{self.base}"
        self._now_s = now_s
        self._token = secrets.token_urlsafe(32)
        self._sessions: dict[bytes, Session] = {}

    @property
    def link(self) -> str:
        """The link that signs one browser in, once."""
        return f"{self.address}{LOGIN}?token={self._token}"

    def sign_in(self, token: str) -> str | None:
        """Begin a session; what its cookie holds, or `None` where the token is another, or was used."""
        if not hmac.compare_digest(token.encode(errors="replace"), self._token.encode()):
            return None
        self._token = secrets.token_urlsafe(32)
        cookie = secrets.token_urlsafe(32)
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda one: self._sessions[one].used_s)]
        self._sessions[_digest(cookie)] = Session(self._now_s())
        return cookie

    def sign_out(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(_digest(cookie), None)

    def session(self, cookie: str, *, quietly: bool = False) -> Session | None:
        """The session of a cookie; one that was idle for too long has ended. `quietly` is no use of it."""
        now_s, name = self._now_s(), _digest(cookie)
        found = self._sessions.get(name)
        if found is None:
            return None
        if not 0 <= now_s - found.used_s <= IDLE_S:
            del self._sessions[name]
            return None
        if not quietly:
            found.used_s = now_s
        return found

    def set_cookie(self, cookie: str) -> str:
        """The header by which a browser keeps the cookie; with an empty one, by which it forgets it."""
        age = "" if cookie else "; Max-Age=0"
        return f"{COOKIE}={cookie}; Path={self.base}; HttpOnly; SameSite=Strict{age}"

    def refusal(self, method: str, headers: Mapping[str, Sequence[str]]) -> Refusal | None:
        """Why a request is not looked at: where it was addressed to, who sent it, and what it wants to be."""
        host = headers.get("host", ())
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return Refusal(status=421, text="This address is not served here.")
        if "upgrade" in headers:
            return Refusal(status=403, text="There is nothing to upgrade to here.")
        if method not in {"GET", "HEAD", "POST"}:
            return Refusal(status=405, text="Only GET and POST are answered here.")
        origin = headers.get("origin", ())
        if (origin or method == "POST") and (len(origin) != 1 or origin[0].lower() != f"http://{host[0].lower()}"):
            return Refusal(status=403, text="This was sent by a page from elsewhere.")
        if method == "POST" and not {*headers.get("sec-fetch-site", ())} <= {"same-origin"}:
            return Refusal(status=403, text="This was sent by a page from elsewhere.")
        return None


class Gate:
    """Stands before the pages: what it does not let through reaches none, and every answer carries `HEADERS`."""

    def __init__(self, app: ASGIApp, access: Access, signed_out: Callable[[str], str]) -> None:
        """`signed_out` makes the page for a browser that is not signed in, of the path that it wanted."""
        self._app = app
        self._access = access
        self._signed_out = signed_out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        send = _with_headers(send)
        headers = _headers(scope)
        refusal = self._access.refusal(scope["method"], headers)
        path: str = scope["path"]
        if refusal is None and not path.startswith(f"{self._access.base}/"):
            refusal = Refusal(status=404, text="There is nothing here.")
        if refusal is not None:
            await _answer(send, refusal.status, refusal.text, "text/plain; charset=utf-8")
            return
        path = path.removeprefix(self._access.base)
        cookie = _cookie(headers)
        session = self._access.session(cookie, quietly=path == "/live")
        form: dict[str, list[str]] = {}
        if scope["method"] == "POST":
            read = await _form(headers, receive)
            if isinstance(read, Refusal):
                await _answer(send, read.status, read.text, "text/plain; charset=utf-8")
                return
            form = read
            if path != LOGIN and not _is_of(session, form):
                text = "This form was not made for you, or is too old. Nothing was changed."
                await _answer(send, 403, text, "text/plain; charset=utf-8")
                return
        if session is None and not path.startswith(OPEN):
            await _answer(send, 401, self._signed_out(path), "text/html; charset=utf-8")
            return
        inner = dict(scope) | {"path": path, "raw_path": path.encode(), "root_path": ""}
        inner["state"] = {"session": session, "cookie": cookie, "form": form}
        await self._app(inner, receive, send)


def _is_of(session: Session | None, form: Mapping[str, Sequence[str]]) -> bool:
    given = form.get(FORM_TOKEN, ())
    return session is not None and len(given) == 1 and hmac.compare_digest(given[0].encode(), session.form.encode())


def _digest(cookie: str) -> bytes:
    """Looked up by digest, so that the time it takes says nothing of the cookies that there are."""
    return hashlib.sha256(cookie.encode(errors="replace")).digest()


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _cookie(headers: Mapping[str, Sequence[str]]) -> str:
    for header in headers.get("cookie", ()):
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return value
    return ""


async def _form(headers: Mapping[str, Sequence[str]], receive: Receive) -> dict[str, list[str]] | Refusal:
    """Read a form of ours."""
    kind = ";".join(headers.get("content-type", ())).partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return Refusal(status=415, text="Only forms are taken here.")
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return Refusal(status=400, text="The form did not come whole.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BODY:
            return Refusal(status=413, text="That is too long.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        return Refusal(status=400, text="The form cannot be read.")
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _with_headers(send: Send) -> Send:
    added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in added}
            own = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in names]
            message = dict(message) | {"headers": [*own, *added]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str, kind: str) -> None:
    body = text.encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
