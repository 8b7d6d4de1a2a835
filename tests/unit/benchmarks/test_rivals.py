"""The conversation with a rival's process, held with a script that is none. Nothing is installed for it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import rivals
from benchmarks.rivals import Rival, RivalFailed

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
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rival]:
    shutil.copy(rivals._SCRIPTS / "_serve.py", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)
    monkeypatch.setattr(rivals, "_SCRIPTS", tmp_path)
    monkeypatch.setattr(rivals, "install", lambda: Path(sys.executable))
    with Rival("echo", threads=1, colour="red") as rival:
        yield rival


def test_it_answers_what_it_is_asked_on_one_core(echo: Rival) -> None:
    answer = echo.ask(number=1, print=True)
    assert answer["asked"] == {"number": 1, "print": True}
    assert answer["settings"] == {"colour": "red"}
    assert answer["cores"] == 1


def test_an_error_is_told_and_the_next_question_answered(echo: Rival) -> None:
    with pytest.raises(RivalFailed, match="echo failed with ValueError: no such face"):
        echo.ask(**{"raise": "no such face"})
    assert echo.ask(number=2)["asked"] == {"number": 2}


def test_one_that_dies_is_an_error_with_its_last_words(echo: Rival) -> None:
    with pytest.raises(RivalFailed, match="echo ended with exit code 3: I give up"):
        echo.ask(exit=3)
    with pytest.raises(RivalFailed, match="ended with exit code 3"):
        echo.ask(number=3)


def test_one_that_takes_too_long_is_ended(echo: Rival) -> None:
    with pytest.raises(RivalFailed, match=r"did not answer within 0.3 s"):
        echo.ask(sleep=60, within=0.3)


def test_outside_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "_ROOT", tmp_path)
    with pytest.raises(RivalFailed, match="run this in a checkout"):
        rivals.install()
