"""Origins are named, one by one."""

from __future__ import annotations

import pytest

from abeyance.rekognition.cors import answer_headers, parse_origins


def test_origins_are_written_as_browsers_write_them() -> None:
    assert parse_origins(" https://a.example http://localhost:3000 ") == {
        "https://a.example",
        "http://localhost:3000",
    }
    assert parse_origins("") == frozenset()


@pytest.mark.parametrize(
    "text", ["*", "null", "a.example", "https://a.example/", "https://A.example", "ftp://a"]
)
def test_nothing_else_is_an_origin(text: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        parse_origins(text)


def test_an_answer_is_for_one_origin() -> None:
    assert answer_headers("https://a.example", ()) == {}
    assert answer_headers("https://b.example", {"https://a.example"}) == {"Vary": "Origin"}
    assert answer_headers("", {"https://a.example"}) == {"Vary": "Origin"}
    found = answer_headers("https://a.example", {"https://a.example"})
    assert found["Access-Control-Allow-Origin"] == "https://a.example"
