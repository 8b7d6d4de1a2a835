"""Policies: C2SP tlog-policy, and the two directives of ours."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.logs import ORIGIN, signer

from abeyance.ledger.policy import Policy, PolicyError, parse_policy
from abeyance.ledger.signatures import COSIGN, SIGN

LOG_KEY = signer(ORIGIN, 1).verifier(SIGN)
OLD_KEY = signer(ORIGIN, 2).verifier(SIGN)
WITNESSES = {
    name: signer(f"{name}.example", 10 + n).verifier(COSIGN)
    for n, name in enumerate(("x1", "x2", "x3", "y1"))
}
LINES = [
    "# who is believed",
    f"log {LOG_KEY} https://log.example/",
    "",
    *(f"\twitness {name} {key}  https://{name}.example/" for name, key in WITNESSES.items()),
    "group x 2 x1 x2 x3",
    "group y any y1",
    "group both all x y",
    "quorum both",
    "#abeyance: fresh 36h",
    f"#abeyance: retired {OLD_KEY} 20852",
]


def test_a_policy_is_read() -> None:
    policy = parse_policy("\n".join(LINES) + "\n")
    assert policy.logs == (LOG_KEY,)
    assert policy.retired == ((OLD_KEY, 20852),)
    assert [(one.name, one.key, one.url) for one in policy.witnesses] == [
        (name, key, f"https://{name}.example/") for name, key in WITNESSES.items()
    ]
    assert policy.fresh == timedelta(hours=36)


@pytest.mark.parametrize(
    ("names", "fulfilled"),
    [
        ((), False),
        (("x1", "x2"), False),
        (("x1", "y1"), False),
        (("x1", "x3", "y1"), True),
        (("x1", "x2", "x3", "y1", "stranger"), True),
        (("y1",), False),
    ],
)
def test_a_quorum(names: tuple[str, ...], fulfilled: bool) -> None:
    assert parse_policy("\n".join(LINES)).witnessed(names) == fulfilled
    assert Policy().witnessed(names)


@given(st.dictionaries(st.sampled_from(sorted(WITNESSES)), st.integers(1, 50)))
def test_a_quorum_is_as_old_as_the_oldest_that_it_needs(cosigned: dict[str, int]) -> None:
    policy = parse_policy("\n".join(LINES))
    at = policy.witnessed_at(cosigned)
    if at is None:
        assert not policy.witnessed(cosigned)
        return
    assert policy.witnessed([name for name, time in cosigned.items() if time >= at])
    assert not policy.witnessed([name for name, time in cosigned.items() if time > at])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("quorum both", "more than one quorum"),
        ("log nonsense", "not a key"),
        (f"log {WITNESSES['x1']}", "a log needs a key for signatures"),
        (f"witness new {LOG_KEY}", "a log needs a key for signatures"),
        (f"log {LOG_KEY}", "stands there twice"),
        (f"witness x1 {signer('n', 5).verifier(COSIGN)}", "is taken"),
        (f"witness none {signer('n', 5).verifier(COSIGN)}", "is taken"),
        ("group z 2 x9", "not defined above"),
        ("group z 1 z", "not defined above"),
        ("group z 1 x1", "a member of a group already"),
        ("group z 0 both", "needs all, any, or"),
        ("group z 2 both", "needs all, any, or"),
        ("group z all", "use log, witness"),
        ("fresh 24h", "use log, witness"),
        ("#abeyance: fresh 0h", "use log, witness"),
        ("#abeyance: fresh 1d", "use log, witness"),
        ("#abeyance: retired", "use log, witness"),
        ("#abeyance: quorum none", "use log, witness"),
        (f"#abeyance: retired {LOG_KEY} 5", "stands there twice"),
    ],
)
def test_what_is_no_policy_names_its_line(line: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why) as error:
        parse_policy("\n".join([*LINES, line]))
    assert f"line {len(LINES) + 1} " in str(error.value)


def test_a_policy_needs_a_quorum() -> None:
    with pytest.raises(PolicyError, match="quorum none"):
        parse_policy(f"log {LOG_KEY}")
    with pytest.raises(PolicyError, match="not defined above"):
        parse_policy("quorum x")
    assert parse_policy("quorum none") == Policy()


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(PolicyError):
        parse_policy(text)
