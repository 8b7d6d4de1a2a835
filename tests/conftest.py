"""What all tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    parser.addoption("--busy-seconds", type=float, default=10, help="seconds of the test of stale answers")
    parser.addoption("--uploads", type=int, default=60, help="photos of the crash test; 500 for the full one")


#: Folders of which a module's tests share something slow to make: a system, a deployment, a browser.
_BY_MODULE = ("tests/e2e/", "tests/integration/", "tests/simulation/")
#: Modules of tests/infra that need no synthesised templates, which all others share.
_WITHOUT_TEMPLATES = ("tests/infra/test_coldstart.py", "tests/infra/test_layers.py")


def _scope_of(test: str) -> str:
    """Return the name that all tests have in common which one process has to run, one after the other."""
    module = test.split("::")[0]
    if module.startswith("tests/infra/") and module not in _WITHOUT_TEMPLATES:
        return "templates"
    return module if module.startswith((*_BY_MODULE, "tests/infra/")) else test


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out by :func:`_scope_of`, slow folders first; xdist 3.8 heeds no groups under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope_of(nodeid)

    config.option.loadscopereorder = False
    return Scheduler(config, log)


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
