"""The pages as one application: what each address answers, over a desk, behind the gate."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from http import HTTPStatus
from importlib.resources import files
from typing import Final, ParamSpec, TypeVar, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from soothsayer_mcp.adapters.faces import BEAT_S
from soothsayer_mcp.adapters.store.reader import AmbiguousError, NotFoundError
from soothsayer_mcp.console.card import pieces
from soothsayer_mcp.console.tui.desk import Card, DeskError
from soothsayer_mcp.model.ask import Ask, AskState
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.trace.query import Filter, FilterError, parse
from soothsayer_mcp.web.access import Access, Gate, Session
from soothsayer_mcp.web.codes import Codes
from soothsayer_mcp.web.desk import ChangedError, Desk
from soothsayer_mcp.web.live import Pulse, Sight
from soothsayer_mcp.web.pages import asks, record, timeline
from soothsayer_mcp.web.pages.frame import Frame, login, signed_out, trouble

P = ParamSpec("P")
R = TypeVar("R")

STATIC: Final[Mapping[str, str]] = {
    "style.css": "text/css; charset=utf-8",
    "ui.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


class Site:
    """One running `ui`."""

    def __init__(self, desk: Desk, access: Access, tell: Callable[[str], None]) -> None:
        """`tell` writes a line to the terminal of whoever started us."""
        self.desk = desk
        self.access = access
        self._tell = tell
        self._codes = Codes(tell)
        self._reading = ThreadPoolExecutor(1, "ui-reading")
        self._writing = ThreadPoolExecutor(1, "ui-writing")
        self.pulse = Pulse(self._look, self._beat, BEAT_S)
        self._static = {name: files("soothsayer_mcp.web").joinpath("static", name).read_bytes() for name in STATIC}

    def app(self) -> ASGIApp:
        """The application, behind its gate."""
        routes = [
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/static/{name}", self.static),
            Route("/", self.home),
            Route("/runs", self.runs),
            Route("/runs/{run}", self.run),
            Route("/runs/{run}/state", self.change_run, methods=["POST"]),
            Route("/steps/{step}", self.step),
            Route("/steps/{step}/why", self.why),
            Route("/asks", self.asks),
            Route("/asks/{ask}", self.ask),
            Route("/asks/{ask}/always", self.always),
            Route("/asks/{ask}/answer", self.answer, methods=["POST"]),
        ]
        inner = Starlette(
            routes=routes, exception_handlers={DeskError: self._desk_failed, HTTPException: self._http_failed}
        )

        async def pages(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/live":
                await self.pulse.stream(receive, send, known_pos=_known(scope))
            else:
                # Before anything is read: what comes in between is told to the page as news.
                scope["state"]["pos"] = await self._position()
                await inner(scope, receive, send)

        return Gate(pages, self.access, lambda path: signed_out(Frame(base=self.access.base), path))

    def end(self) -> None:
        """Let go of the pages that listen, on the loop that serves them."""
        self.pulse.end()

    def close(self) -> None:
        """Nothing is asked any more."""
        self._reading.shutdown()
        self._writing.shutdown()

    # Signing in and out.

    async def login(self, request: Request) -> Response:
        """The page of the printed link, and what its button does."""
        frame = Frame(base=self.access.base)
        if request.method != "POST":
            return HTMLResponse(login(frame, request.query_params.get("token", "")))
        cookie = self.access.sign_in(_one(request, "token"))
        if cookie is None:
            return HTMLResponse(login(frame, "", failed=True), status_code=403)
        self._tell(f"a browser is signed in; the link for another is {self.access.link}")
        answer = RedirectResponse(frame.at("/asks"), status_code=303)
        answer.headers["set-cookie"] = self.access.set_cookie(cookie)
        return answer

    async def logout(self, request: Request) -> Response:
        """End the session of this browser."""
        self.access.sign_out(request.state.cookie)
        answer = HTMLResponse(signed_out(Frame(base=self.access.base), "/asks"))
        answer.headers["set-cookie"] = self.access.set_cookie("")
        return answer

    async def static(self, request: Request) -> Response:
        """A file of ours."""
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404)
        return Response(self._static[name], media_type=STATIC[name])

    # Questions.

    async def asks(self, request: Request) -> Response:
        """Open questions."""
        found = await self.read(self.desk.open_asks)
        return HTMLResponse(asks.list_page(await self.frame(request, [ask.run for ask in found]), found))

    async def ask(self, request: Request) -> Response:
        """The card of one. Looking at it decides nothing, however often."""
        return await self._card(request, await self._found(request))

    async def always(self, request: Request) -> Response:
        """What a yes for good would change."""
        card = await self._found(request)
        if card.ask.state is not AskState.OPEN:
            return await self._card(request, card, status=409)
        change = await self.write(self.desk.rule_change, card.ask)
        return HTMLResponse(asks.always_page(await self.frame(request, [card.ask.run]), card.ask, change))

    async def answer(self, request: Request) -> Response:
        """A person's answer to what they were shown."""
        card = await self._found(request)
        ask, said = card.ask, _one(request, "answer")
        if ask.state is not AskState.OPEN:
            return await self._card(request, card, status=409)
        if _one(request, "shown") != ask.shown:
            changed = "This is not the card that you answered. Nothing was answered; look at it again."
            return await self._card(request, card, status=412, trouble=changed)
        if said not in {"no", "yes", "run", "always"}:
            raise HTTPException(400)
        if said in {"run", "always"} and card.why_once:
            return await self._card(request, card, status=403, trouble=f"Only once: {card.why_once}.")
        if said != "no" and _is_reserved(ask) and not self._codes.is_right(ask.id, _call(ask), _one(request, "code")):
            text = "These are not the six characters that stand in the terminal. Nothing was answered."
            return await self._card(request, card, status=403, trouble=text)
        stands, counted = await self._told(card, said, request)
        if not counted:
            return await self._card(request, await self._found(request), status=409)
        if stands.state is not AskState.OPEN:
            self._codes.drop(ask.id)
        _session(request).notice = asks.answered(stands, said)
        return RedirectResponse(f"{self.access.base}/asks", status_code=303)

    async def _told(self, card: Card, said: str, request: Request) -> tuple[Ask, bool]:
        comment = " ".join(_one(request, "comment").split())[: asks.COMMENT_MAX]
        if said == "always":
            return await self.write(self.desk.answer_for_good, card.ask, comment, _one(request, "change"))
        state = AskState.NO if said == "no" else AskState.YES
        return await self.write(self.desk.answer, card.ask, state, comment, card.shape if said == "run" else None)

    async def _found(self, request: Request) -> Card:
        card = await self.read(self.desk.card, request.path_params["ask"])
        if card is None:
            raise HTTPException(404)
        return card

    async def _card(self, request: Request, card: Card, *, status: int = 200, trouble: str = "") -> Response:
        ask = card.ask
        runs = [ask.run, *([card.last.run] if card.last else [])]
        frame = await self.frame(request, runs)
        answerable = ask.state is AskState.OPEN and (not ask.needs or bool(self.desk.approver))
        coded = answerable and _is_reserved(ask)
        if coded:
            self._codes.want(ask.id, _call(ask))
        return HTMLResponse(asks.card_page(frame, card, coded=coded, trouble=trouble), status_code=status)

    # The record.

    async def home(self, request: Request) -> Response:
        """Steps, the newest first, or those before a place."""
        query, trouble = request.query_params.get("q", ""), ""
        try:
            wanted = parse(query)
        except FilterError as error:
            wanted, trouble = None, str(error)
        key = _key(request.query_params.get("before", ""))
        rows = [] if wanted is None else await self.read(self.desk.before, key, wanted, record.MOST + 1)
        older = (rows[1].at_us, rows[1].n) if len(rows) > record.MOST else None
        shown = rows[-record.MOST :][::-1]
        frame = await self.frame(request, [row.run for row in shown])
        return HTMLResponse(record.live_page(frame, shown, query, older=older, trouble=trouble))

    async def runs(self, request: Request) -> Response:
        """Runs, the one with the newest step first."""
        found = await self.read(self.desk.runs, Filter(), record.MOST)
        return HTMLResponse(record.runs_page(await self.frame(request, [row.run for row in found]), found))

    async def run(self, request: Request) -> Response:
        """One run."""
        name = request.path_params["run"]
        if _RUN.fullmatch(name) is None:
            raise HTTPException(404)
        told = await self.read(self.desk.run_page, name, record.MOST)
        entries = await self.read(self.desk.entries_of, name, timeline.KINDS, 20 * record.MOST)
        return HTMLResponse(record.run_page(await self.frame(request, [name]), told, timeline.marks(name, entries)))

    async def change_run(self, request: Request) -> Response:
        """Pause, resume or stop a run."""
        name, to = request.path_params["run"], _one(request, "to")
        if _RUN.fullmatch(name) is None or to not in {RunState.OPEN, RunState.PAUSED, RunState.STOPPED}:
            raise HTTPException(404)
        await self.write(self.desk.change_run, name, RunState(to))
        _session(request).notice = f"run {name[:4]}: {to}"
        return RedirectResponse(f"{self.access.base}/runs/{name}", status_code=303)

    async def step(self, request: Request) -> Response:
        """One step."""
        story = await self.read(self.desk.story, _step_name(request))
        return HTMLResponse(record.step_page(await self.frame(request, [story.step.run]), story))

    async def why(self, request: Request) -> Response:
        """Every rule that could have concerned a step."""
        name = _step_name(request)
        story = await self.read(self.desk.story, name)
        lines = await self.read(self.desk.explain, name, _WIDTH)
        return HTMLResponse(record.why_page(await self.frame(request, [story.step.run]), story.step, lines))

    # What all pages need.

    async def frame(self, request: Request, runs: Sequence[str] = ()) -> Frame:
        """What is around a page that a signed-in person looks at."""
        session = _session(request)
        notice = ""
        if request.headers.get("sec-fetch-mode", "navigate") == "navigate":
            # Said to the person who answered, and not to a page in the background that looks for news.
            notice, session.notice = session.notice, ""
        await self._beat()
        return Frame(
            base=self.access.base,
            form=session.form,
            open_asks=len(await self.read(self.desk.open_asks)),
            approver=self.desk.approver,
            notice=notice,
            now_us=self.desk.now_us(),
            pos=request.state.pos,
            shorts=await self.read(self.desk.shorts, list(dict.fromkeys(runs))) if runs else {},
        )

    async def read(self, ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask the desk something beside the loop."""
        return await _beside(self._reading, ask, *args, **kwargs)

    async def write(self, tell: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Have the desk change something; it waits for no question."""
        return await _beside(self._writing, tell, *args, **kwargs)

    async def _look(self) -> Sight:
        asks_ = await self.read(self.desk.open_asks)
        return Sight(pos=await self.read(self.desk.position), asks=tuple(ask.id for ask in asks_))

    async def _position(self) -> int:
        try:
            return await self.read(self.desk.position)
        except DeskError:
            return -1  # The page says what is wrong.

    async def _beat(self) -> None:
        await self.read(self.desk.beat)

    async def _desk_failed(self, request: Request, error: Exception) -> Response:
        if isinstance(error, ChangedError):
            return await self._failed(request, 412, "Changed meanwhile", str(error))
        missing = isinstance(error.__cause__, NotFoundError | AmbiguousError)
        title = "Not found" if missing else "That did not work"
        return await self._failed(request, 404 if missing else 503, title, str(error))

    async def _http_failed(self, request: Request, error: Exception) -> Response:
        status = cast("HTTPException", error).status_code
        text = {404: "There is nothing here.", 405: "This is answered to another kind of request."}
        return await self._failed(
            request, status, "Not found" if status == HTTPStatus.NOT_FOUND else "Not answered", text.get(status, "")
        )

    async def _failed(self, request: Request, status: int, title: str, text: str) -> Response:
        session = cast("Session | None", request.state.session)
        frame = Frame(base=self.access.base, form="" if session is None else session.form, approver=self.desk.approver)
        return HTMLResponse(trouble(frame, title, text), status_code=status)


_RUN = re.compile(r"[0-9a-f]{32}")
_STEP = re.compile(r"([0-9a-f]{32})\.([0-9]{1,9})")
_PLACE = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")
_WIDTH: Final = 120


def _step_name(request: Request) -> tuple[str, int]:
    found = _STEP.fullmatch(request.path_params["step"])
    if found is None:
        raise HTTPException(404)
    return found[1], int(found[2])


def _key(text: str) -> tuple[int, int] | None:
    """A place among steps, as an address says it."""
    found = _PLACE.fullmatch(text)
    return None if found is None else (int(found[1]), int(found[2]))


async def _beside(executor: Executor, ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.get_running_loop().run_in_executor(executor, lambda: ask(*args, **kwargs))


def _is_reserved(ask: Ask) -> bool:
    """Whether only a person may say yes, and no program that drives a browser."""
    return ask.strong or bool(ask.needs)


def _call(ask: Ask) -> str:
    return pieces(ask.card).call


def _session(request: Request) -> Session:
    return cast("Session", request.state.session)


def _one(request: Request, name: str) -> str:
    """A field that was sent once; empty otherwise."""
    values = cast("Mapping[str, Sequence[str]]", request.state.form).get(name, ())
    return values[0] if len(values) == 1 else ""


def _known(scope: Scope) -> int | None:
    """Up to where a page has seen the trace: as its browser says when it comes again, else as its address says."""
    said = dict(scope["headers"]).get(b"last-event-id", b"") or scope["query_string"].removeprefix(b"pos=")
    text = said.decode("latin-1")
    return int(text) if text.isascii() and text.isdigit() else None
