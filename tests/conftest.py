"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from abeyance.aws import clients

# An example may take as long as a busy machine makes it take.
settings.register_profile("abeyance", deadline=None)
settings.load_profile("abeyance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data",
        type=Path,
        default=None,
        help="folder of photos to measure on; tests that need it skip without",
    )
    parser.addoption("--fuzz-minutes", type=float, default=0, help="minutes of cost fuzzing; 0 takes seconds")
    parser.addoption("--uploads", type=int, default=60, help="photos of the crash test; 500 for the full one")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests that share something slow to make in one process: a module of integration, and all of templates."""
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        if "synthesise" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("templates"))
        elif item.path.is_relative_to(Path(__file__).with_name("integration")):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def _clients_of_this_test() -> None:
    """Forget the process's AWS clients: each test has an AWS of its own."""
    clients.client.cache_clear()
    clients._session.cache_clear()


@pytest.fixture(scope="session")
def data_folder(request: pytest.FixtureRequest) -> Path:
    """The folder given with ``--data``; skips where there is none."""
    folder: Path | None = request.config.getoption("--data")
    if folder is None:
        pytest.skip("needs --data FOLDER")
    return folder
