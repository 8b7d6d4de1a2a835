"""S3's order of the events on one key."""

from __future__ import annotations

from typing import Final

#: Hexadecimal digits of the longest sequencer.
_DIGITS: Final = 32


def sequencer_order(sequencer: str) -> str:
    """Return the text by which the sequencers of one key sort.

    S3 compares them as text after the shorter is padded with zeros on the right
    (https://repost.aws/knowledge-center/s3-duplicate-sqs-messages).
    """
    return sequencer.upper().ljust(_DIGITS, "0")
