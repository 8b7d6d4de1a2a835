"""The process of a rival, with a script that echoes. Nothing is installed for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from infra.venvs import VenvFailed

from benchmarks import rivals
from benchmarks.process import BenchmarkError, Child

ECHO = """
import os, sys, time
from _serve import SETTINGS, THREADS, serve

def answer(request):
    if "exit" in request:
        sys.stderr.write("I give up")
        os._exit(request["exit"])
    if "raise" in request:
        raise ValueError(request["raise"])
    if "print" in request:
        print("a library says hello")
        os.write(1, b"and so does C")
    time.sleep(request.get("sleep", 0))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else THREADS
    return {"asked": request, "settings": SETTINGS, "cores": cores}

serve(answer)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    shutil.copy(rivals._SCRIPTS / "_serve.py", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)
    monkeypatch.setattr(rivals, "_SCRIPTS", tmp_path)
    with rivals.start("echo", threads=1, ours=True, colour="red") as rival:
        yield rival


def test_it_answers_what_it_is_asked_on_one_core(echo: Child) -> None:
    answer = echo.ask(number=1, print=True)
    assert answer["asked"] == {"number": 1, "print": True}
    assert answer["settings"] == {"colour": "red"}
    assert answer["cores"] == 1


def test_an_error_is_told_and_the_next_question_answered(echo: Child) -> None:
    with pytest.raises(BenchmarkError, match="echo failed with ValueError: no such face"):
        echo.ask(**{"raise": "no such face"})
    assert echo.ask(number=2)["asked"] == {"number": 2}


def test_one_that_dies_is_an_error_with_its_last_words(echo: Child) -> None:
    with pytest.raises(BenchmarkError, match="echo ended with exit code 3: I give up"):
        echo.ask(exit=3)
    with pytest.raises(BenchmarkError, match="ended with exit code 3"):
        echo.ask(number=3)


def test_one_that_takes_too_long_is_ended(echo: Child) -> None:
    with pytest.raises(BenchmarkError, match=r"did not answer within 0.3 s"):
        echo.ask(sleep=60, within=0.3)


def test_rivals_that_cannot_be_installed_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Path:
        raise VenvFailed(f"{name}: no network")

    monkeypatch.setattr(rivals, "python_of", fail)
    with pytest.raises(BenchmarkError, match="bench: no network"):
        rivals.start("photos_opencv")


class Tool:
    """A tool that takes so many seconds for its work."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.done = seconds, 0

    def __call__(self, times: int) -> float:
        self.done += times
        return self.seconds


def test_everybody_has_a_turn_and_slow_tools_have_fewer() -> None:
    quick, slow = Tool(0.02), Tool(3.0)
    found = rivals.in_turn({"quick": quick, "slow": slow}, 4, 0.5)
    assert found == {"quick": [0.02] * 4, "slow": [3.0] * 2}
    assert quick.done == 2 + 4 * 25
    assert slow.done == 1 + 2
