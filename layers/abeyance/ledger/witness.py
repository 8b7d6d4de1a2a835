"""The client of witnesses (C2SP tlog-witness): ask for a cosignature of a new checkpoint.

A witness remembers the last checkpoint that it signed, and signs the next only with a proof that it extends that one.
So who wants to hide an entry that a witness has covered has to win over the witness, or be seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from abeyance.encoding import encode_base64
from abeyance.ledger.checkpoint import LogCheckpoint
from abeyance.ledger.errors import LedgerCorrupt, LedgerUnavailable
from abeyance.ledger.note import NoteError, Signature, parse_signature
from abeyance.ledger.policy import WitnessEntry
from abeyance.ledger.signatures import verify

ADD_CHECKPOINT: Final = "add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
MAX_PROOF_LINES: Final = 63
_MAX_ANSWER_BYTES: Final = 64 * 1024
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


class WitnessUnavailable(LedgerUnavailable):
    """A witness that did not answer as it should. The log is not witnessed by it for now; ask again."""


class WitnessRefused(LedgerCorrupt):
    """A witness has seen another history of this log, or a longer one. An alarm: find out which is true."""


class Post(Protocol):
    """The port of HTTP: send a body to a URL; status, content type and body return.

    Raises ``OSError`` where no answer came.
    """

    def __call__(self, url: str, body: bytes, /) -> tuple[int, str, bytes]: ...


def add_checkpoint_body(old: int, proof: Sequence[bytes], checkpoint: LogCheckpoint) -> bytes:
    """Return the body of the request that asks for a cosignature."""
    lines = [f"old {old}", *map(encode_base64, proof), ""]
    return ("\n".join(lines) + "\n" + str(checkpoint)).encode()


def ask_witness(
    witness: WitnessEntry,
    checkpoint: LogCheckpoint,
    old: int,
    prove: Callable[[int], Sequence[bytes]],
    post: Post,
) -> Signature:
    """Return a witness's cosignature of a checkpoint.

    Parameters
    ----------
    witness
        It has a URL.
    checkpoint
        Signed by the log.
    old
        Size of the checkpoint that the witness is taken to have signed last; 0 for the first. If that is wrong, it
        says which, and is asked once more.
    prove
        Size of an older tree -> consistency proof to the checkpoint's (RFC 9162); empty for 0 and for its own size.
    post
        Sends the request; see :func:`post_with_urllib3`.

    Raises
    ------
    WitnessUnavailable
        No answer, or one that is no good cosignature of this checkpoint by this witness.
    WitnessRefused
        The witness has signed another tree of this size, or a larger one, or holds the proof for wrong.
    """
    url = f"{witness.url.rstrip('/')}/{ADD_CHECKPOINT}"
    for attempt in range(2):
        try:
            status, kind, body = post(url, add_checkpoint_body(old, prove(old), checkpoint))
        except OSError as error:
            raise WitnessUnavailable(f"witness {witness.name}: {type(error).__name__}") from None
        if status == 200:
            return _cosignature(witness, checkpoint, body)
        size = _SIZE.fullmatch(body) if status == 409 and kind.split(";")[0].strip() == SIZE_TYPE else None
        if size is not None and int(size[1]) > checkpoint.size:
            raise WitnessRefused(
                f"witness {witness.name} has signed {int(size[1])} entries of this log, which now has "
                f"{checkpoint.size}: entries were lost, or this is another history"
            )
        if size is not None and attempt == 0 and int(size[1]) != old:
            old = int(size[1])
            continue
        if status in (409, 422):
            raise WitnessRefused(
                f"witness {witness.name} answers {status}: the log of {checkpoint.size} entries does not extend "
                f"the one of {old} that it signed"
            )
        break
    raise WitnessUnavailable(f"witness {witness.name} answers {status}")


def post_with_urllib3(timeout_s: float = 10) -> Post:
    """Return the adapter of :class:`Post` over HTTP and HTTPS; redirects are not followed."""
    import urllib3

    pool = urllib3.PoolManager(retries=False, timeout=timeout_s)

    def post(url: str, body: bytes) -> tuple[int, str, bytes]:
        try:
            answer = pool.request("POST", url, body=body, redirect=False, preload_content=False)
            data = answer.read(_MAX_ANSWER_BYTES)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise OSError(type(error).__name__) from None
        return answer.status, answer.headers.get("Content-Type", ""), data

    return post


def _cosignature(witness: WitnessEntry, checkpoint: LogCheckpoint, body: bytes) -> Signature:
    try:
        signatures = [parse_signature(line) for line in body.decode().removesuffix("\n").split("\n")]
    except (UnicodeDecodeError, NoteError):
        raise WitnessUnavailable(f"witness {witness.name} answers with no signature") from None
    for signature in signatures:
        if verify(checkpoint, signature, witness.key):
            return signature
    raise WitnessUnavailable(f"witness {witness.name} answers with no good signature of its own")
