"""Debian's Chromium as the browser of a test, and what every page has to be: accessible, and no wider than a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Folder for screenshots; none are made if it is empty.
SCREENSHOTS = os.environ.get("ABEYANCE_SCREENSHOTS", "")
#: Colour scheme, width and height in pixels of each variant; the first is the default.
VARIANTS: dict[str, tuple[Any, int, int]] = {
    "": ("light", 1100, 800),
    "-dark": ("dark", 1100, 800),
    "-phone": ("light", 390, 780),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium without a window; skip where it is not installed. It uses this process's asyncio loop."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


def check_page(page: Any, name: str) -> None:
    """Check that a page is accessible, and save screenshots if their folder is set.

    In light and dark colours and on a phone, axe-core finds nothing and nothing is wider than the window.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    for variant, (scheme, width, height) in VARIANTS.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        found = axe.run(page).response["violations"]
        said = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
        assert said == [], name + variant
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name}{variant} is {wide} pixels wider than the window"
        if SCREENSHOTS:
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=f"{SCREENSHOTS}/{name}{variant}.png", full_page=True)
    scheme, width, height = VARIANTS[""]
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": height})
