"""A client of the change service, for commands and console: it signs as its caller, or passes a user's token on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from abeyance.moratorium.access_keys import AccessKey
from abeyance.moratorium.authorization_uses import RegisteredAuthorization
from abeyance.moratorium.callers import TOKEN_HEADER
from abeyance.moratorium.errors import MoratoriumError
from abeyance.moratorium.proposals import Proposal
from abeyance.moratorium.subjects import Change, ChangeRefused
from abeyance.moratorium.tenants import Tenant

#: Posts a signed body with headers, and returns status and body of the answer; raises ``OSError`` without one.
Post = Callable[[bytes, Mapping[str, str]], tuple[int, bytes]]


class ChangeClient:
    """The change service at its URL.

    Parameters
    ----------
    post
        Signs and sends a request.
    token
        The ID token of the person who asks; empty for the person whose credentials sign.
    """

    def __init__(self, post: Post, token: str = "") -> None:
        self._post = post
        self._token = token

    def on_behalf_of(self, token: str) -> ChangeClient:
        """Return a client for the person with this ID token."""
        return ChangeClient(self._post, token)

    def submit(self, change: Change, *, note: str = "", wait: bool = False) -> Proposal:
        """Make a change that loosens nothing, or propose it; see ``ChangeService.submit``."""
        return self._proposal("submit", change=msgspec.to_builtins(change), note=note, wait=wait)

    def create_key(self, tenant: str) -> tuple[AccessKey, Proposal]:
        """Make an access key for a tenant, and propose it; it is active when somebody else agrees."""
        answer = self._ask("create-key", tenant=tenant)
        return AccessKey(answer["key"], answer["secret"]), msgspec.convert(answer["proposal"], Proposal)

    def approve(self, proposal_id: str, digest: str) -> Proposal:
        """Agree to exactly the change of this digest."""
        return self._proposal("approve", id=proposal_id, digest=digest)

    def withdraw(self, proposal_id: str) -> Proposal:
        """Close a proposal."""
        return self._proposal("withdraw", id=proposal_id)

    def retry(self, proposal_id: str) -> Proposal:
        """Make an approved change whose effect failed."""
        return self._proposal("retry", id=proposal_id)

    def get(self, proposal_id: str) -> Proposal:
        """Return one proposal."""
        return self._proposal("show", id=proposal_id)

    def all(self) -> list[Proposal]:
        """Return every proposal, oldest first."""
        return msgspec.convert(self._ask("proposals"), list[Proposal])

    def tenants(self) -> list[Tenant]:
        """Return every registration."""
        return msgspec.convert(self._ask("tenants"), list[Tenant])

    def authorizations(self) -> list[RegisteredAuthorization]:
        """Return every authorisation, and how many requests have used it."""
        return msgspec.convert(self._ask("authorizations"), list[RegisteredAuthorization])

    def people(self) -> dict[str, str]:
        """Return the person of each principal."""
        return dict(self._ask("people"))

    def state(self) -> dict[str, Any]:
        """Return what is in force: flags, brake and guardrails, by name."""
        return dict(self._ask("state"))

    def _proposal(self, do: str, **parameters: Any) -> Proposal:
        return msgspec.convert(self._ask(do, **parameters), Proposal)

    def _ask(self, do: str, **parameters: Any) -> Any:
        """Raises :class:`ChangeRefused` with the service's words, ``MoratoriumError`` if it does not answer."""
        body = json.dumps({"do": do, **parameters}, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", **({TOKEN_HEADER: self._token} if self._token else {})}
        try:
            status, answer = self._post(body, headers)
            content = json.loads(answer)
        except (OSError, ValueError) as error:
            raise MoratoriumError(
                f"the change service gave no answer ({type(error).__name__}): look at what is in force, then try again"
            ) from None
        if status == 200:
            return content
        message = content.get("message") if isinstance(content, dict) else None
        kind = ChangeRefused if 400 <= status < 500 else MoratoriumError
        raise kind(str(message or f"the change service answered with status {status}"))
