"""Requests to a URL of API Gateway, signed with the credentials of this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

#: Seconds to connect, and to wait for an answer: API Gateway itself waits for 29.
_TIMEOUT_S = (2.0, 30.0)


class SignedHttp:
    """POST requests, signed for API Gateway (Signature Version 4, service ``execute-api``).

    Parameters
    ----------
    session
        A botocore session, which has credentials and region.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._http = URLLib3Session(
            timeout=_TIMEOUT_S, verify=session.get_config_variable("ca_bundle") or True
        )

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of the answer; raises ``OSError`` if there is none, or nobody to sign."""
        credentials = self._session.get_credentials()
        if credentials is None:
            raise ConnectionError("no AWS credentials are set")
        request = AWSRequest("POST", url, data=body, headers=dict(headers))
        region = self._session.get_config_variable("region") or "us-east-1"
        SigV4Auth(credentials.get_frozen_credentials(), "execute-api", region).add_auth(request)
        try:
            answer = self._http.send(request.prepare())
        except BotoCoreError as error:
            raise ConnectionError(type(error).__name__) from None
        return answer.status_code, answer.content
