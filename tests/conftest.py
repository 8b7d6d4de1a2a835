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
