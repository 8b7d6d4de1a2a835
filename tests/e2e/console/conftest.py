"""The whole local system with its console, and Debian's Chromium as the browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.e2e.browser import SCREENSHOTS, browser, check_page

from abeyance.local.demo import prepare
from abeyance.local.gateway import mount_console
from abeyance.local.samples import fetch_samples
from abeyance.local.system import LocalSystem
from abeyance.local.tenants import TENANTS, register
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.schema import definition

__all__ = ["SCREENSHOTS", "browser"]


@pytest.fixture(scope="session")
def portrait() -> bytes:
    """Return a public-domain photo of one person."""
    prepare()
    return next(iter(fetch_samples("astronaut").values())).read_bytes()


def flags() -> dict[str, Any]:
    """Return the police halt, and two reviewers for every match of a commercial tenant."""
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
    """Start a system with local tenants, the flags above, and one person in acme's collection ``staff``."""
    path = tmp_path_factory.mktemp("flags") / "flags.json"
    path.write_text(json.dumps(flags()))
    with LocalSystem(flags=path) as running:
        register(running, TENANTS)
        if not any(type(service).__name__ == "Console" for service in running.services):
            running.services.append(mount_console(running.aws, running.sign_in_key))  # type: ignore[arg-type]
        put(running, "acme/index/staff/worker.png", portrait)
        yield running


def put(system: LocalSystem, key: str, body: bytes) -> dict[str, Any]:
    """Upload a photo, wait until the system is idle, and return the result."""
    system.client("s3").put_object(Bucket="uploads", Key=key, Body=body)
    system.drain(60)
    return result(system, key)


def result(system: LocalSystem, key: str) -> dict[str, Any]:
    """Return the result document of an upload."""
    found: dict[str, Any] = json.loads(
        system.client("s3").get_object(Bucket="results", Key=f"{key}.json")["Body"].read()
    )
    return found


class Visitor:
    """A signed-in person's browser, which collects the errors of its pages."""

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
        """Press the button or follow the link with this name."""
        control = self.page.get_by_role("button", name=name).or_(self.page.get_by_role("link", name=name))
        control.first.click()

    def go(self, path: str) -> Any:
        """Open a page of the console."""
        return self.page.goto(f"{self.home}{path}")

    def text(self) -> str:
        """Return the text of the page."""
        said: str = self.page.locator("main").inner_text()
        return said

    def check_page(self, name: str) -> None:
        """Check that the page is accessible and light; see :func:`tests.e2e.browser.check_page`."""
        check_page(self.page, name)
        assert self.weight() < 100_000, name

    def weight(self) -> int:
        """Return the bytes of the page and of everything that it loaded, as transferred."""
        script = (
            "performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
            ".reduce((sum, one) => sum + one.encodedBodySize, 0)"
        )
        return int(self.page.evaluate(script))


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Any, system: LocalSystem) -> Iterator[Visit]:
    """Return a function that opens a person's browser: ``visit("Ada")``. Afterwards no page may have an error."""
    opened: list[Visitor] = []

    def open_one(name: str = "", **context: Any) -> Visitor:
        opened.append(Visitor(browser, system, name, **context))
        return opened[-1]

    yield open_one
    for visitor in opened:
        visitor.context.close()
        assert visitor.foreign == []
        assert visitor.complaints == []


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition does not hold"
        time.sleep(0.1)
