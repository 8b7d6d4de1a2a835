"""The HTTP face of the change service: one POST, whose JSON names what to do, signed by whoever asks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Union

import msgspec
from msgspec import Struct

from abeyance.encoding import decode_base64
from abeyance.moratorium.access_keys import KeyStore
from abeyance.moratorium.audit_store import AUDITS
from abeyance.moratorium.audits import AuditFacts
from abeyance.moratorium.authorization_uses import RegisteredAuthorization
from abeyance.moratorium.callers import Caller, SignIn, Unauthenticated
from abeyance.moratorium.change_log import LedgerRefused
from abeyance.moratorium.documents import GovernedDocument
from abeyance.moratorium.errors import MoratoriumError, TenantUnknown
from abeyance.moratorium.guardrail_store import GUARDRAILS, DeployedGuardrails
from abeyance.moratorium.principals import NotAPerson
from abeyance.moratorium.proposals import Proposal, read_change
from abeyance.moratorium.service import ChangeService
from abeyance.moratorium.subjects import EffectFailed, TenantChange
from abeyance.moratorium.tenants import Tenant
from abeyance.moratorium.tokens import ProviderUnavailable, TokenRefused

log = logging.getLogger("abeyance")
MAX_REQUEST_BYTES: Final = 2 << 20


class Submit(Struct, frozen=True, forbid_unknown_fields=True, tag="submit", tag_field="do"):
    """Make a change that loosens nothing, or propose it."""

    change: dict[str, Any]
    note: str = ""
    wait: bool = False


class Approve(Struct, frozen=True, forbid_unknown_fields=True, tag="approve", tag_field="do"):
    """Agree to the change of this digest."""

    id: str
    digest: str


class Withdraw(Struct, frozen=True, forbid_unknown_fields=True, tag="withdraw", tag_field="do"):
    """Close a proposal."""

    id: str


class Retry(Struct, frozen=True, forbid_unknown_fields=True, tag="retry", tag_field="do"):
    """Make an approved change whose effect failed."""

    id: str


class CreateKey(Struct, frozen=True, forbid_unknown_fields=True, tag="create-key", tag_field="do"):
    """Make an access key and propose to add it to its tenant's principals."""

    tenant: str


class Show(Struct, frozen=True, forbid_unknown_fields=True, tag="show", tag_field="do"):
    """Return one proposal."""

    id: str


class ListProposals(Struct, frozen=True, forbid_unknown_fields=True, tag="proposals", tag_field="do"):
    """Return every proposal, oldest first."""


class ListTenants(Struct, frozen=True, forbid_unknown_fields=True, tag="tenants", tag_field="do"):
    """Return every registration."""


class ListPeople(Struct, frozen=True, forbid_unknown_fields=True, tag="people", tag_field="do"):
    """Return the person of each principal."""


class ListAuthorizations(
    Struct, frozen=True, forbid_unknown_fields=True, tag="authorizations", tag_field="do"
):
    """Return every authorisation, and how many requests have used it."""


class ShowState(Struct, frozen=True, forbid_unknown_fields=True, tag="state", tag_field="do"):
    """Return what is in force."""


_Change = Union[Submit, Approve, Withdraw, Retry]  # noqa: UP007 - msgspec reads it
_Read = Union[  # noqa: UP007 - msgspec reads it
    Show, ListProposals, ListTenants, ListPeople, ListAuthorizations, ShowState
]
_READS: Final = (Show, ListProposals, ListTenants, ListPeople, ListAuthorizations, ShowState)
_request = msgspec.json.Decoder(Union[_Change, CreateKey, _Read])  # noqa: UP007 - msgspec reads it
_STATUS: Final[tuple[tuple[type[MoratoriumError], int], ...]] = (
    (Unauthenticated, 403),
    (NotAPerson, 403),
    (TokenRefused, 403),
    (LedgerRefused, 503),
    (ProviderUnavailable, 503),
    (EffectFailed, 503),
    (MoratoriumError, 409),
)


class ChangeEndpoint:
    """Answers proxy events of API Gateway (REST API) or of a function URL.

    Parameters
    ----------
    tenants
        Returns every registration.
    keys
        Makes access keys.
    authorizations
        Returns every authorisation.
    audits
        Returns the audits in force, by model.
    """

    def __init__(
        self,
        service: ChangeService,
        sign_in: SignIn,
        tenants: Callable[[], list[Tenant]],
        keys: KeyStore,
        authorizations: Callable[[], list[RegisteredAuthorization]],
        audits: Callable[[], Mapping[str, AuditFacts]],
    ) -> None:
        self._audits = audits
        self._authorizations = authorizations
        self._keys = keys
        self._service = service
        self._sign_in = sign_in
        self._tenants = tenants

    def __call__(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the proxy response. A refused attempt is put on the ledger, whoever made it."""
        caller: Caller | None = None
        body = _body(event)
        try:
            request = _request.decode(body)
            if isinstance(request, _READS):
                self._sign_in.require_signature(event)
                return _response(200, self._read(request))
            caller = self._sign_in.caller(event)
            if isinstance(request, CreateKey):
                return _response(200, self._create_key(caller, request.tenant))
            return _response(200, public(self._change(caller, request)))
        except msgspec.MsgspecError as error:
            self._note(caller, body, error)
            return _response(400, {"error": "Malformed", "message": f"this is no request: {error}"})
        except MoratoriumError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            if not isinstance(error, EffectFailed):  # nothing was refused
                self._note(caller, body, error)
            return _response(status, {"error": type(error).__name__, "message": str(error)})

    def _change(self, caller: Caller, request: _Change) -> Proposal:
        service = self._service
        match request:
            case Submit():
                change = read_change(request.change)
                return service.submit(caller, change, note=request.note, wait=request.wait)
            case Approve():
                return service.approve(caller, request.id, request.digest)
            case Withdraw():
                return service.withdraw(caller, request.id)
            case Retry():
                return service.retry(caller, request.id)

    def _create_key(self, caller: Caller, tenant_id: str) -> dict[str, Any]:
        """Return the key with its secret, which nobody sees again, and the proposal that makes it active."""
        tenant = next((one for one in self._tenants() if one.id == tenant_id), None)
        if tenant is None:
            raise TenantUnknown("no tenant of this id is registered")
        self._service.require_person(caller)
        key = self._keys.make(tenant)
        changed = msgspec.structs.replace(tenant, principals=(*tenant.principals, key.id))
        proposal = self._service.submit(caller, TenantChange(changed), note=f"access key {key.id}")
        return {"key": key.id, "secret": key.secret, "proposal": public(proposal)}

    def _read(self, request: _Read) -> Any:
        service = self._service
        match request:
            case Show():
                return public(service.get(request.id))
            case ListProposals():
                return [public(one) for one in service.all()]
            case ListTenants():
                return [msgspec.to_builtins(one) for one in self._tenants()]
            case ListPeople():
                return dict(service.people().people)
            case ListAuthorizations():
                return [msgspec.to_builtins(one) for one in self._authorizations()]
            case ShowState():
                states = {name: _state(document) for name, document in service.documents.items()}
                audits = {model: msgspec.to_builtins(facts) for model, facts in self._audits().items()}
                return {**states, GUARDRAILS: _guardrails(service.guardrails.read()), AUDITS: audits}

    def _note(self, caller: Caller | None, body: bytes, error: Exception) -> None:
        try:
            request = msgspec.json.decode(body)
            self._service.refused(caller, request if isinstance(request, dict) else {}, error)
        except Exception as failure:  # noqa: BLE001 - the refusal stands, whether or not it could be noted
            log.error("a refusal could not be noted", extra={"because": type(failure).__name__})


def public(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as the endpoint answers it."""
    return dict(msgspec.to_builtins(proposal))


def _state(document: GovernedDocument) -> dict[str, Any]:
    record = document.watch().record
    # What is edited next is what holds: while a loosening is on its way, that is the document before it.
    held = record.previous if record.loosening and record.previous is not None else record.document
    return {
        "generation": record.generation,
        "digest": record.digest,
        "phase": record.phase,
        "loosening": record.loosening,
        "drift": record.drift,
        "version": record.version,
        "document": held,
    }


def _guardrails(found: DeployedGuardrails) -> dict[str, Any]:
    return {
        "generation": found.generation,
        "digest": found.digest,
        "drift": not found.is_intact,
        "document": found.document,
    }


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(text).encode()[:MAX_REQUEST_BYTES]
    try:
        return decode_base64(str(text))[:MAX_REQUEST_BYTES]
    except ValueError:
        return b""


def _response(status: int, content: Any) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(content, ensure_ascii=False),
        "isBase64Encoded": False,
    }
