"""The codes of AWS's errors."""

from __future__ import annotations

from typing import Final

#: Codes with which AWS throttles: the same request may succeed later.
THROTTLES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


def aws_code(error: Exception) -> str:
    """Return the error code in a botocore ``ClientError``; empty for any other exception."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return code if isinstance(code, str) else ""
