"""Signatures (AWS Signature Version 4) that SDKs make with keys of this deployment, verified.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from abeyance.aws.signing import signature_of
from abeyance.aws.timestamps import utc_now
from abeyance.rekognition.call import ReceivedRequest
from abeyance.rekognition.errors import ApiError
from abeyance.rekognition.gateway import AUTHORIZATION_HEADER, PURPOSE_HEADER

#: A request may be sent again within it, as with AWS.
SKEW: Final = timedelta(minutes=5)
#: AWS's own limit for the life of a presigned request.
MAX_EXPIRES_S: Final = 604_800
SERVICE: Final = "rekognition"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_TIME: Final = "%Y%m%dT%H%M%SZ"
_HEADER: Final = re.compile(
    rf"{_ALGORITHM} +Credential=([^\s,]+), *SignedHeaders=([a-z0-9;-]+), *Signature=([0-9a-f]{{64}})"
)
#: Headers that decide what is asked, and by whose name; each must be signed, the others too where they are there.
_ALWAYS_SIGNED: Final = frozenset({"host", "x-amz-target"})
_SIGNED_IF_THERE: Final = frozenset({PURPOSE_HEADER, AUTHORIZATION_HEADER})
#: The errors of a request that is signed; one without a signature has no principal, and so no tenant.
SIGNATURE_ERRORS: Final = frozenset(
    {"IncompleteSignatureException", "InvalidSignatureException", "UnrecognizedClientException"}
)
#: Compared with where there is no secret, so that an unknown key takes as long as a wrong signature.
_NO_SECRET: Final = "0" * 40


@dataclass(frozen=True, slots=True)
class _Claim:
    """The parts of a signature, as they were sent."""

    key_id: str
    scope: tuple[str, str, str]
    signed_headers: tuple[str, ...]
    signature: str
    time: str
    expires_s: int | None


class SignatureVerifier:
    """A verifier of headers and presigned queries.

    Parameters
    ----------
    secret_of
        Returns the secret of a key id, or None.
    clock
        Aware wall clock.
    service
        The only service that is signed for.
    always_signed
        Headers that every signature covers.
    """

    def __init__(
        self,
        secret_of: Callable[[str], str | None],
        clock: Callable[[], datetime] = utc_now,
        *,
        service: str = SERVICE,
        always_signed: frozenset[str] = _ALWAYS_SIGNED,
    ) -> None:
        self._secret_of = secret_of
        self._clock = clock
        self._service = service
        self._always_signed = always_signed

    def verify(self, request: ReceivedRequest, region: str) -> str:
        """Return the id of the key that signed the request for a region.

        Raises
        ------
        ApiError
            IncompleteSignatureException without a signature, or for one that leaves something open;
            InvalidSignatureException for one that is wrong, expired, or for something else;
            UnrecognizedClientException for an unknown key, with the work of a wrong signature.
        """
        claim = _claim(request)
        self._require_complete(request, claim)
        self._require_current(claim, region)
        secret = self._secret_of(claim.key_id)
        expected = _signature(request, claim, secret or _NO_SECRET)
        matches = hmac.compare_digest(expected, claim.signature)
        if secret is None:
            raise ApiError("UnrecognizedClientException", "The security token included is invalid.")
        if not matches:
            raise _invalid(
                "The signature does not match. Check the secret, and that nothing on the way changes the request."
            )
        return claim.key_id

    def _require_complete(self, request: ReceivedRequest, claim: _Claim) -> None:
        signed = set(claim.signed_headers)
        amazon = {name for name in request.headers if name.startswith("x-amz-")}
        # botocore signs all of them but this one, which a proxy may add.
        needed = self._always_signed | (amazon - {"x-amzn-trace-id"})
        needed |= {name for name in _SIGNED_IF_THERE if name in request.headers}
        if claim.expires_s is None:
            needed |= {"x-amz-date"}
        if missing := sorted(needed - signed):
            raise ApiError("IncompleteSignatureException", f"The signature leaves out {', '.join(missing)}.")
        if absent := sorted(signed - request.headers.keys() - {"host"}):
            raise ApiError("IncompleteSignatureException", f"There is no header {', '.join(absent)}.")
        if "x-amz-security-token" in {*request.headers, *(name.lower() for name in request.query)}:
            raise _invalid("A key of this deployment has no session token.")
        declared = request.headers.get("x-amz-content-sha256")
        if declared is not None and not hmac.compare_digest(
            declared.encode(), hashlib.sha256(request.body).hexdigest().encode()
        ):
            raise _invalid("The body is not the one that was signed; an unsigned body is not accepted.")

    def _require_current(self, claim: _Claim, region: str) -> None:
        date, signed_for, service = claim.scope
        if (service, signed_for) != (self._service, region):
            raise _invalid(f"Sign for the service {self._service} in the region {region}.")
        try:
            signed_at = datetime.strptime(claim.time, _TIME).replace(tzinfo=UTC)
        except ValueError:
            raise ApiError("IncompleteSignatureException", "The signature has no date.") from None
        if signed_at.strftime("%Y%m%d") != date or signed_at.strftime(_TIME) != claim.time:
            raise _invalid("The dates of the signature differ.")
        now = self._clock()
        life = SKEW if claim.expires_s is None else timedelta(seconds=claim.expires_s)
        if not -SKEW <= now - signed_at <= life:
            raise _invalid(f"Signature expired: signed at {claim.time}, now is {now.strftime(_TIME)}.")


def _claim(request: ReceivedRequest) -> _Claim:
    header, query = request.headers.get("authorization"), request.query
    if header is not None and "X-Amz-Signature" in query:
        raise _invalid("A request is signed once, in its header or in its query.")
    expires_s = None
    if header is not None:
        found = _HEADER.fullmatch(header.strip())
        if found is None:
            raise ApiError("IncompleteSignatureException", "The Authorization header cannot be read.")
        credential, names, signature = found.groups()
        time = request.headers.get("x-amz-date", "")
    elif "X-Amz-Signature" in query:
        credential, names = query.get("X-Amz-Credential", ""), query.get("X-Amz-SignedHeaders", "")
        signature, time = query["X-Amz-Signature"], query.get("X-Amz-Date", "")
        life = query.get("X-Amz-Expires", "")
        expires_s = int(life) if re.fullmatch(r"[1-9][0-9]{0,5}", life) else 0
        well_formed = (
            query.get("X-Amz-Algorithm") == _ALGORITHM
            and re.fullmatch(r"[0-9a-f]{64}", signature)
            and re.fullmatch(r"[a-z0-9;-]+", names)
            and 0 < expires_s <= MAX_EXPIRES_S
        )
        if not well_formed:
            raise ApiError("IncompleteSignatureException", "The query's signature cannot be read.")
    else:
        raise ApiError("IncompleteSignatureException", "The request has no signature.")
    key_id, *scope = credential.split("/")
    headers = tuple(names.split(";"))
    if len(scope) != 4 or scope[3] != "aws4_request" or list(headers) != sorted(set(headers)):
        raise ApiError(
            "IncompleteSignatureException", "The signature's credential or headers cannot be read."
        )
    return _Claim(key_id, (scope[0], scope[1], scope[2]), headers, signature, time, expires_s)


def _signature(request: ReceivedRequest, claim: _Claim, secret: str) -> str:
    """Return the signature that the request should have, made with exactly the headers that were signed."""
    headers = {name: request.headers[name] for name in claim.signed_headers if name != "host"}
    _, region, service = claim.scope
    return signature_of(
        request.method,
        f"https://{request.host}{request.path}",
        {name: value for name, value in request.query.items() if name != "X-Amz-Signature"},
        {**headers, "host": request.host},
        request.body,
        secret=secret,
        time=claim.time,
        region=region,
        service=service,
    )


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message)
