"""Paging tokens: what a caller can forge is refused before it reaches the table."""

from __future__ import annotations

import pytest

from abeyance.gallery.errors import InvalidPage
from abeyance.gallery.paging import page_start, page_token


@pytest.mark.parametrize("last", ["1f0c8a52-9f6f-4a1b-9f57-5d1c2b3a4e5f", "staff", "user:7"])
def test_a_page_begins_where_the_one_before_ended(last: str) -> None:
    assert page_start("faces of staff", page_token("faces of staff", last)) == last
    with pytest.raises(InvalidPage):
        page_start("faces of others", page_token("faces of staff", last))


@pytest.mark.parametrize("last", ["staff", "staff2", "staff23"])
def test_a_token_has_one_spelling(last: str) -> None:
    token = page_token("faces of staff", last)
    others = [token + "=", token + "==", token + "\n", token[:-1] + chr(ord(token[-1]) + 1)]
    for other in others:
        with pytest.raises(InvalidPage):
            page_start("faces of staff", other)


@pytest.mark.parametrize("last", ["x" * 3000, "a/b", "a\x00b", "é", "#"])
def test_a_well_made_token_with_an_impossible_id_is_refused(last: str) -> None:
    with pytest.raises(InvalidPage):
        page_start("faces of staff", page_token("faces of staff", last))
