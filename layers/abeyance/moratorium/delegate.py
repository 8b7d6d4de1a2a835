"""Publishing without the right to deploy: the document goes to the one function that has it.

::

    console --document--> DelegatedPublisher --invoke--> function flags --deploy--> AppConfig
                                                         looks for itself: is it sound, does it loosen,
                                                         did two principals agree to exactly this?

The caller's word counts for nothing but the document and the flags that it was made against.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from abeyance.aws.timestamps import utc_now
from abeyance.encoding import decode_base64
from abeyance.moratorium.changes import ChangeKind, classify
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.errors import MoratoriumError, NothingDeployed
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.publish import FlagPublisher, PublishConflict, Published
from abeyance.moratorium.validate import Approved, check_change

#: The task that the function is invoked with.
PUBLISH: Final = "publish"


class DelegatedPublisher:
    """:class:`~abeyance.moratorium.publish.FlagPublisher` that only reads by itself.

    Parameters
    ----------
    reader
        Whose ``current`` is asked.
    invoke
        Hands an event to the function and gives its answer; raises whatever it likes if there is none.
    """

    def __init__(self, reader: FlagPublisher, invoke: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        self._reader = reader
        self._invoke = invoke

    def current(self) -> Published:
        return self._reader.current()

    def publish(self, document: dict[str, Any], /, *, base: str, gradual: bool, note: str) -> str:
        """See the port. Whether it is gradual is the function's to say: it looks whether the document loosens."""
        try:
            answer = self._invoke({"task": PUBLISH, "document": document, "base": base, "note": note})
        except Exception as error:  # noqa: BLE001 - whatever the call raises, nobody knows whether it was deployed
            raise MoratoriumError(
                f"what deploys moratoria gave no answer ({type(error).__name__}): look at what is in force, then try "
                "again"
            ) from None
        if answer.get("conflict"):
            raise PublishConflict(str(answer["conflict"]))
        if not answer.get("version"):
            raise MoratoriumError(str(answer.get("refused") or "what deploys moratoria gave no version"))
        return str(answer["version"])


def invoke_function(client: Any, function: str, event: dict[str, Any]) -> dict[str, Any]:
    """Invoke a Lambda function and return its answer; raises ``RuntimeError`` if it failed."""
    answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    if answer.get("FunctionError"):
        raise RuntimeError(answer["FunctionError"])
    return dict(json.loads(answer["Payload"].read()))


def deploy(
    event: Mapping[str, Any],
    publisher: FlagPublisher,
    *,
    approved: Approved,
    as_of: datetime,
    places: Iterable[str],
) -> dict[str, str]:
    """Judge and deploy the document of an event of :class:`DelegatedPublisher`.

    Returns ``version``, or why not: ``refused`` (by the rules that the validator has) or ``conflict``.
    """
    document, base = dict(event["document"]), str(event["base"])
    try:
        in_force = publisher.current().flags
        findings = check_change(document, in_force, approved=approved, as_of=as_of, places=places)
        if findings:
            return {"refused": "; ".join(f"{one.flag}: {one.message}".removeprefix(": ") for one in findings)}
        loosens = classify(in_force, parse(document), since=as_of).kind is ChangeKind.LOOSENING
        note = str(event.get("note", ""))
        return {"version": publisher.publish(document, base=base, gradual=loosens, note=note)}
    except PublishConflict as error:
        return {"conflict": str(error)}
    except MoratoriumError as error:
        return {"refused": str(error)}


class DocumentRefused(ValueError):
    """A document that may not be deployed; AppConfig shows the text to whoever started the deployment."""


class FlagDeployer:
    """The function ``flags``: AppConfig's validator, and the one that deploys what the console hands over.

    Parameters
    ----------
    in_force
        Returns the flags that are deployed; raises :class:`NothingDeployed` before the first deployment.
    publisher
        Returns where documents come into force.
    approved
        Tells whether two principals agreed to a document on a base.
    places
        Returns the jurisdictions of registered tenants.
    """

    def __init__(
        self,
        in_force: Callable[[], FlagSet],
        publisher: Callable[[], FlagPublisher],
        approved: Approved,
        places: Callable[[], Iterable[str]],
    ) -> None:
        self._in_force = in_force
        self._publisher = publisher
        self._approved = approved
        self._places = places

    def __call__(self, event: Mapping[str, Any]) -> dict[str, str] | None:
        """Check ``event["content"]`` (base64) against the flags in force, or deploy ``event["document"]``.

        Returns None for a sound content, and :func:`deploy`'s answer for a document. Raises
        :class:`DocumentRefused` with all that is wrong with a content, and ``ValueError`` if it is not base64.
        """
        as_of, places = utc_now(), self._places()
        if event.get("task") == PUBLISH:
            return deploy(event, self._publisher(), approved=self._approved, as_of=as_of, places=places)
        content = decode_base64(event["content"])
        try:
            in_force = self._in_force()
        except NothingDeployed:
            in_force = parse(new_deployment())
        findings = check_change(content, in_force, approved=self._approved, as_of=as_of, places=places)
        if findings:
            raise DocumentRefused(
                "\n".join(f"{finding.flag or 'document'}: {finding.message}" for finding in findings)
            )
        return None
