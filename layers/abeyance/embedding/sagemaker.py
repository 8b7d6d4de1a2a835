"""The endpoint over SageMaker's InvokeEndpoint."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from abeyance.aws.errors import THROTTLES
from abeyance.embedding import npy
from abeyance.embedding.remote import EndpointResponse, EndpointUnreachable, is_retryable


class SageMakerTransport:
    """A :class:`~abeyance.embedding.remote.Transport` through SageMaker.

    Parameters
    ----------
    client
        A ``sagemaker-runtime`` client without retries (``total_max_attempts`` 1) and with the policy's time limits.
    endpoint
        Name of the endpoint, or ``<endpoint>/<inference component>``.
    """

    def __init__(self, client: Any, endpoint: str) -> None:
        self._client = client
        name, _, component = endpoint.partition("/")
        self._target = {"EndpointName": name, **({"InferenceComponentName": component} if component else {})}

    def __call__(self, body: bytes) -> EndpointResponse:
        """Send one request; see :class:`~abeyance.embedding.remote.Transport`."""
        try:
            response = self._client.invoke_endpoint(
                **self._target, Body=body, ContentType=npy.MEDIA_TYPE, Accept=npy.MEDIA_TYPE
            )
            # SageMaker hands on no other header of the container's response.
            return EndpointResponse(200, response.get("CustomAttributes", ""), response["Body"].read())
        except ClientError as error:
            return _container_response(error)
        except ParamValidationError:
            raise
        except BotoCoreError as error:
            # No connection, no answer in time, no credentials.
            raise EndpointUnreachable(f"SageMaker cannot be reached: {type(error).__name__}") from error


def _container_response(error: ClientError) -> EndpointResponse:
    """Return the container's response in SageMaker's error; raises ``EndpointUnreachable`` if there is none."""
    details: dict[str, Any] = error.response
    code = details["Error"]["Code"]
    if code == "ModelError":
        # 424: the container answered with another status than 200, or not at all (then the status is 0).
        status = int(details.get("OriginalStatusCode") or 500)
        return EndpointResponse(status, "", str(details.get("OriginalMessage", "")).encode())
    # SageMaker throttles with status 400.
    retryable = is_retryable(details["ResponseMetadata"]["HTTPStatusCode"]) or code in {
        *THROTTLES,
        "RequestTimeout",
    }
    raise EndpointUnreachable(f"SageMaker answers {code}", retryable=retryable) from error
