"""The whole system with its console, and Debian's Chromium in front of it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from abeyance.local.demo import prepare
from abeyance.local.gateway import mount_console
from abeyance.local.samples import fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.schema import definition

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Where to leave pictures of the pages; nowhere if it is not set.
SCREENSHOTS = os.environ.get("ABEYANCE_SCREENSHOTS", "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; skips where there is none. While it runs, asyncio is its own in this process."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def portrait() -> bytes:
    """A public-domain photo of one person."""
    prepare()
    return next(iter(fetch_samples("astronaut").values())).read_bytes()


def flags() -> dict[str, Any]:
    """The police halt, and two reviewers for every match of a commercial tenant."""
    document = new_deployment()
    document["flags"]["two_reviewers"] = definition("Two reviewers", "Two people look at every match.")
    document["values"]["two_reviewers"] = {
        "enabled": True,
        "effect": "restrict",
        "actions": ["search"],
        "sectors": ["commercial"],
        "jurisdictions": ["all"],
        "starts": "2021-01-01T00:00:00Z",
        "ends": "2031-01-01T00:00:00Z",
        "on_expiry": "hold",
        "human_review": 2,
        "min_similarity": 90.0,
        "reason": "Two people look at every match before anybody is told of it.",
        "source": "Decision of the oversight board",
    }
    return document


@pytest.fixture(scope="module")
def system(browser: Any, portrait: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """A running system with local tenants, the flags above, and somebody in acme's gallery ``staff``."""
    path = tmp_path_factory.mktemp("flags") / "flags.json"
    path.write_text(json.dumps(flags()))
    with LocalSystem(flags=path) as running:
        register(running, TENANTS)
        if not any(type(service).__name__ == "Console" for service in running.services):
            running.services.append(mount_console(running.aws))  # type: ignore[arg-type]
        put(running, "acme/index/staff/worker.png", portrait)
        yield running


def put(system: LocalSystem, key: str, body: bytes) -> dict[str, Any]:
    """Upload a photo, wait until all is quiet; its result."""
    system.client("s3").put_object(Bucket="uploads", Key=key, Body=body)
    system.drain(60)
    return result(system, key)


def result(system: LocalSystem, key: str) -> dict[str, Any]:
    """The result document of an upload."""
    found: dict[str, Any] = json.loads(
        system.client("s3").get_object(Bucket="results", Key=f"{key}.json")["Body"].read()
    )
    return found


class Visitor:
    """A signed-in person's browser, which notes everything that a page complains about."""

    def __init__(self, browser: Any, system: LocalSystem, name: str = "", **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1100, "height": 800}, **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.home = f"{system.endpoint}/console"
        self.complaints: list[str] = []
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type == "error" else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.foreign: list[str] = []
        self.page.on(
            "request",
            lambda sent: None if sent.url.startswith((self.home, "data:")) else self.foreign.append(sent.url),
        )
        self.page.goto(f"{self.home}/")
        if name:
            self.click(name)

    def click(self, name: str) -> None:
        """Press the button or follow the link of that name."""
        control = self.page.get_by_role("button", name=name).or_(self.page.get_by_role("link", name=name))
        control.first.click()

    def go(self, path: str) -> Any:
        """Open a page of the console."""
        return self.page.goto(f"{self.home}{path}")

    def text(self) -> str:
        """What the page says."""
        said: str = self.page.locator("main").inner_text()
        return said

    def check_page(self, name: str) -> None:
        """Check that the page is accessible and light, and save screenshots if their folder is set.

        In light and dark colours and on a phone, axe-core finds nothing and nothing is wider than the window.
        """
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        for look, (scheme, width, height) in LOOKS.items():
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": height})
            found = axe.run(self.page).response["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], name + look
            wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{name}{look} is {wide} pixels wider than the window"
            if SCREENSHOTS:
                Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
                self.page.screenshot(path=f"{SCREENSHOTS}/{name}{look}.png", full_page=True)
        scheme, width, height = LOOKS[""]
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": height})
        assert self.weight() < 100_000, name

    def weight(self) -> int:
        """Bytes of the page and of all that it loaded, as they came over the wire."""
        script = (
            "performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
            ".reduce((sum, one) => sum + one.encodedBodySize, 0)"
        )
        return int(self.page.evaluate(script))


#: Colour scheme, width and height of each look; the first is the usual one.
LOOKS: dict[str, tuple[Any, int, int]] = {
    "": ("light", 1100, 800),
    "-dark": ("dark", 1100, 800),
    "-phone": ("light", 390, 780),
}
Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Any, system: LocalSystem) -> Iterator[Visit]:
    """``visit("Ada")`` gives a browser of that person; every one is closed, and must have had nothing to say."""
    opened: list[Visitor] = []

    def open_one(name: str = "", **context: Any) -> Visitor:
        opened.append(Visitor(browser, system, name, **context))
        return opened[-1]

    yield open_one
    for visitor in opened:
        visitor.context.close()
        assert visitor.foreign == []
        assert visitor.complaints == []


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)
