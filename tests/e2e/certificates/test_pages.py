"""The pages for people outside in a real browser: the verifier in JavaScript against that in Python, and axe."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.certificates import FLAG, Halt
from tests.e2e.browser import browser, check_page
from tests.manipulations import OF_BUNDLE, OF_LOG, Lines

from abeyance.assurance.checking import check_bundle
from abeyance.assurance.files import WrittenCertificate, write_certificate
from abeyance.assurance.status import write_public

__all__ = ["browser"]

#: Calls the page's verifier with a bundle in base64, the keys, and the certificate that it has to be of.
VERIFY = """async ([bundle, policy, certificate]) => {
  const bytes = Uint8Array.from(atob(bundle), (one) => one.charCodeAt(0));
  return verifyBundle(new Blob([bytes]), policy, certificate);
}"""


@pytest.fixture(scope="module")
def halt() -> Halt:
    return Halt()


@pytest.fixture(scope="module")
def written(halt: Halt, tmp_path_factory: pytest.TempPathFactory) -> WrittenCertificate:
    """A certificate and the public page beside it."""
    folder = tmp_path_factory.mktemp("public")
    first, last = halt.grow(70), halt.grow(300)
    made = write_certificate(
        folder,
        FLAG,
        lambda out: halt.certifier().certify(FLAG, first, last, out, reconciled=[halt.reconciled()]),
        halt.policy_text(),
    )
    write_public(folder, halt.flags, halt.at, last, halt.policy_text())
    return made


@pytest.fixture(scope="module")
def page(browser: Any, written: WrittenCertificate) -> Iterator[Any]:
    """The certificate's page as a file; nothing may be requested besides it, and no script may complain."""
    opened = browser.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request", lambda sent: complaints.append(sent.url) if not sent.url.startswith("file:") else None
    )
    opened.goto(written.page.as_uri())
    yield opened
    opened.close()
    assert complaints == []


def in_page(page: Any, bundle: bytes, policy: str, certificate: Any = None) -> Any:
    return page.evaluate(VERIFY, [base64.b64encode(bundle).decode(), policy, certificate])


def test_a_reader_checks_the_certificate_in_its_page(
    page: Any, written: WrittenCertificate, tmp_path: Path
) -> None:
    page.get_by_role("button", name="Check").click()
    assert "Choose the bundle first" in page.locator("#result").inner_text()
    page.set_input_files("#bundle", written.bundle)
    page.get_by_role("button", name="Check").click()
    page.locator("#result.good").wait_for()
    said = page.locator("#result").inner_text()
    assert "Yes: this certificate says what the 300 entries of the log say" in said
    assert "Witnessed by w0.example and w1.example" in said
    check_page(page, "certificate")

    lines = Lines(written.bundle.read_bytes())
    OF_BUNDLE["lower_count"][0](lines)
    changed = tmp_path / "changed.bundle"
    changed.write_bytes(lines.bundle())
    page.set_input_files("#bundle", changed)
    page.get_by_role("button", name="Check").click()
    page.locator("#result.bad").wait_for()
    said = page.locator("#result").inner_text()
    assert "Do not believe this certificate" in said
    assert "certificate: counted.by.0.count: it says 1, and the entries say 60" in said


def compared(page: Any, halt: Halt, bundle: bytes, folder: Path) -> tuple[list[Any], list[Any]]:
    """Return the problems that both verifiers find, without the words that only one of them has."""
    path = folder / "halt.bundle"
    path.write_bytes(bundle)
    found = check_bundle(path, halt.policy())
    here = [(one.where, one.what.split("; give it")[0]) for one in found.problems]
    there = [(one["where"], one["what"]) for one in in_page(page, bundle, halt.policy_text())["problems"]]
    return here, there


@pytest.mark.parametrize("name", OF_BUNDLE)
def test_both_verifiers_find_the_same_in_a_manipulated_bundle(
    page: Any, halt: Halt, written: WrittenCertificate, tmp_path: Path, name: str
) -> None:
    manipulate, where, what = OF_BUNDLE[name]
    lines = Lines(written.bundle.read_bytes())
    manipulate(lines)
    here, there = compared(page, halt, lines.bundle(), tmp_path)
    assert any(one[0].startswith(where) and what in one[1] for one in there), there
    assert there == here


@pytest.mark.parametrize("name", OF_LOG)
def test_both_verifiers_find_the_same_in_a_manipulated_log(page: Any, tmp_path: Path, name: str) -> None:
    manipulate, what = OF_LOG[name]
    halt = Halt()
    halt.append(*halt.decided(20))
    manipulate(halt)
    _, bundle = halt.certify(None, halt.log.checkpoint())
    here, there = compared(page, halt, bundle, tmp_path)
    assert any(what in one[1] for one in there)
    assert there == here


def test_what_is_disclosed_is_counted_by_both(
    page: Any, halt: Halt, written: WrittenCertificate, tmp_path: Path
) -> None:
    _, bundle = halt.certify(None, halt.log.checkpoint(), ["tenant", "place", "sector", "people"])
    assert compared(page, halt, bundle, tmp_path) == ([], [])


def test_files_that_are_none_fail_in_both(
    page: Any, halt: Halt, written: WrittenCertificate, tmp_path: Path
) -> None:
    bundle = written.bundle.read_bytes()
    for data in (bundle[: len(bundle) // 2], b"", b"abeyance-bundle-1\n"):
        here, there = compared(page, halt, data, tmp_path)
        assert here
        assert there


def test_a_browser_without_webcrypto_says_so_and_believes_no_signature(
    browser: Any, halt: Halt, written: WrittenCertificate
) -> None:
    opened = browser.new_page()
    opened.add_init_script("Object.defineProperty(globalThis, 'crypto', { value: {} })")
    opened.goto(written.page.as_uri())
    found = in_page(opened, written.bundle.read_bytes(), halt.policy_text())
    assert not found["ok"]
    assert {one["where"] for one in found["problems"]} == {"from", "to", "note", "signatures"}
    assert "cannot check Ed25519" in found["problems"][-1]["what"]
    assert "SHA-256 is the page's own" in found["said"][0]
    opened.close()


def test_the_public_page_is_light_and_accessible(browser: Any, written: WrittenCertificate) -> None:
    opened = browser.new_page()
    opened.goto((written.page.parent / "index.html").as_uri())
    said = opened.locator("main").inner_text()
    wanted = (
        "1 rule is in force",
        "law enforcement",
        "10 June 2020",
        "thorn, icmec",
        "w0.example",
        "further notice",
    )
    assert [text for text in wanted if text not in said] == []
    check_page(opened, "public")
    opened.get_by_role("link", name="Police halt, ").click()
    assert "Nothing speaks against this halt" in opened.locator("main").inner_text()
    opened.close()
