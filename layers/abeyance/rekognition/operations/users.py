"""CreateUser, DeleteUser, ListUsers."""

from __future__ import annotations

from typing import Any, Final

from abeyance.rekognition.call import Call
from abeyance.rekognition.operations.services import Services

#: Default for the users of a page.
PAGE: Final = 500


def create_user(call: Call, services: Services) -> dict[str, Any]:
    """Create a user without faces."""
    services.gallery.create_user(
        call.ref, call.params["UserId"], token=call.params.get("ClientRequestToken", "")
    )
    return {}


def delete_user(call: Call, services: Services) -> dict[str, Any]:
    """Remove a user; its faces stay."""
    services.gallery.delete_user(
        call.ref, call.params["UserId"], token=call.params.get("ClientRequestToken", "")
    )
    return {}


def list_users(call: Call, services: Services) -> dict[str, Any]:
    """List users by id."""
    page = services.gallery.list_users(
        call.ref, limit=call.params.get("MaxResults", PAGE), token=call.params.get("NextToken", "")
    )
    return {
        "Users": [{"UserId": user.id, "UserStatus": str(user.status)} for user in page.items],
        "NextToken": page.next_token or None,
    }
