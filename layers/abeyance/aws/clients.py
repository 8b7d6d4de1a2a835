"""The AWS clients of this process, and how long each waits for its service."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import botocore.session
from botocore.config import Config
from botocore.handlers import add_expect_header

#: Makes the AWS client of a service by its name.
Clients: TypeAlias = Callable[[str], Any]

#: Saves a fifth of a request's processor time: the user agent is not composed for each request, and botocore does not
#: validate parameters that the service validates anyway.
BASE_CONFIG: Final[dict[str, Any]] = {"user_agent": "abeyance", "parameter_validation": False}

#: For services that move bytes, in seconds.
DEFAULT_TIMEOUTS_S: Final[dict[str, Any]] = {
    "connect_timeout": 3,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
#: For services whose answer a caller waits for: after five seconds at most, no answer is a denial.
DECISION_TIMEOUTS_S: Final[dict[str, Any]] = {
    "connect_timeout": 1.0,
    "read_timeout": 1.5,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
SERVICE_TIMEOUTS_S: Final[dict[str, dict[str, Any]]] = {
    "sqs": DECISION_TIMEOUTS_S,
    "appconfigdata": DECISION_TIMEOUTS_S,
    # Its own client in `embedding/` retries, because it knows which errors are worth it.
    "sagemaker-runtime": {"connect_timeout": 1, "read_timeout": 10, "retries": {"total_max_attempts": 1}},
    # No retry: a caller that is cut off during a deployment must read the state before it asks again.
    "lambda": {"connect_timeout": 1, "read_timeout": 26, "retries": {"total_max_attempts": 1}},
    "dynamodb": {
        "connect_timeout": 1,
        "read_timeout": 4,
        "retries": {"mode": "standard", "total_max_attempts": 3},
    },
}

#: One for all clients: they share the list of regions and the credentials.
_session = functools.cache(botocore.session.get_session)


@functools.cache
def client(service: str) -> Any:
    """Return this process's client of a service, as ``boto3.client`` makes it.

    ``execute-api`` is a :class:`~abeyance.aws.http.SignedHttp`: deployed functions behind API Gateway.

    Its timeouts leave a function time to answer, or its queue time to deliver again. It comes from botocore, because
    importing boto3 with its resources and transfers takes a tenth of the gate's cold start.
    """
    if service == "execute-api":
        from abeyance.aws.http import SignedHttp

        return SignedHttp(_session())
    made = _session().create_client(
        service, config=Config(**BASE_CONFIG, **SERVICE_TIMEOUTS_S.get(service, DEFAULT_TIMEOUTS_S))
    )
    # An `Expect: 100-continue` costs a round trip, for objects that are smaller than what a round trip carries.
    made.meta.events.unregister("before-call.s3", add_expect_header)
    return made
