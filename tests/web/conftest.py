"""The pages over a real store, asked as a browser would ask them."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest

from recording import opened
from soothsayer_mcp.cli.options import Given, settings
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.ui_desk import PageDesk, Signer
from soothsayer_mcp.web.access import Access
from soothsayer_mcp.web.app import Site
from watch.conftest import Office

PORT = 45_990
HOST = f"127.0.0.1:{PORT}"
ORIGIN = f"http://{HOST}"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Pages:
    """One running `ui` without its socket, and a browser that may be signed in."""

    def __init__(self, folder: Path, *, signer: Signer | None = None) -> None:
        self.folder = folder
        self.clock = Clock()
        self.access = Access(PORT, now_s=self.clock)
        self.told: list[str] = []
        self.desk = PageDesk(Output(settings(Given(values={"state": [str(folder)]}), {})), signer=signer)
        self.site = Site(self.desk, self.access, self.told.append)
        self.app = self.site.app()
        self.browser = self.new_browser()

    def new_browser(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url=ORIGIN)

    async def close(self) -> None:
        await self.browser.aclose()
        self.site.close()
        self.desk.leave()

    def at(self, path: str) -> str:
        return f"{self.access.base}{path}"

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.browser.get(self.at(path), headers=headers)

    async def post(
        self, path: str, fields: dict[str, str], *, origin: str | None = ORIGIN, **headers: str
    ) -> httpx2.Response:
        said = {"content-type": "application/x-www-form-urlencoded", **headers}
        if origin is not None:
            said["origin"] = origin
        return await self.browser.post(self.at(path), content=urlencode(fields), headers=said)

    async def sign_in(self) -> httpx2.Response:
        return await self.post("/login", {"token": self.access.link.rpartition("=")[2]})

    async def fields(self, ask: str) -> dict[str, str]:
        """What the form of a card carries that nobody types."""
        return hidden((await self.get(f"/asks/{ask}")).text)

    async def answer(self, ask: str, said: str, **more: str) -> httpx2.Response:
        return await self.post(f"/asks/{ask}/answer", {**await self.fields(ask), "answer": said, **more})


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of the last form of a page."""
    form = page.rpartition("<form")[2]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with opened(tmp_path / "state") as store:
        yield Office(tmp_path / "state", store)


@pytest.fixture
async def pages(office: Office) -> AsyncIterator[Pages]:
    made = Pages(office.folder)
    await made.sign_in()
    yield made
    await made.close()
