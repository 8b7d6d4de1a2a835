"""AppConfig's validator: only what the change service deploys at this moment can be deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from abeyance.encoding import decode_base64
from abeyance.moratorium.document import parse
from abeyance.moratorium.errors import FlagsError
from abeyance.moratorium.inforce import InForce


class DocumentRefused(ValueError):
    """A document that may not be deployed; AppConfig shows the text to whoever started the deployment."""


class DeploymentValidator:
    """Compares a content with the records of what is in force.

    Parameters
    ----------
    records
        Returns the records, by name of the document.
    profile_of
        Returns the AppConfig profile id of a document.
    """

    def __init__(
        self, records: Callable[[], Mapping[str, InForce]], profile_of: Callable[[str], str]
    ) -> None:
        self._records = records
        self._profile_of = profile_of

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Check ``event["content"]`` (base64). Raises :class:`DocumentRefused`, or ``ValueError`` for no base64.

        The content must be the document that the record of its profile names. Approvals do not count here: they are
        used up when the record is written, so an old document cannot come back by an old approval.
        """
        try:
            digest = parse(decode_base64(event["content"])).digest
        except FlagsError as error:
            raise DocumentRefused(str(error)) from None
        profile = event.get("configurationProfileId")
        for name, record in self._records().items():
            if record.digest == digest and (not profile or self._profile_of(name) == profile):
                return
        raise DocumentRefused(
            "the change service is not deploying this document: propose it with `abeyance moratoria propose`"
        )
