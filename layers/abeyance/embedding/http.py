"""The endpoint over HTTP: straight to the container, or through a load balancer (ECS)."""

from __future__ import annotations

import urllib3

from abeyance.embedding import npy
from abeyance.embedding.remote import EndpointResponse, EndpointUnreachable, RetryPolicy

#: Connections that are kept open between requests, for as many threads.
_CONNECTIONS = 8


class HttpTransport:
    """A :class:`~abeyance.embedding.remote.Transport` that keeps its connections.

    It stands on the HTTP library that botocore brings, which follows no proxy variables: this is a private address.

    Parameters
    ----------
    url
        Of the service, ``http://...`` or ``https://...``; ``/invocations`` is added.
    """

    def __init__(self, url: str, policy: RetryPolicy | None = None) -> None:
        policy = policy or RetryPolicy()
        self._url = url.rstrip("/") + "/invocations"
        timeout = urllib3.Timeout(connect=policy.connect_timeout_s, read=policy.read_timeout_s)
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, retries=False, timeout=timeout)

    def __call__(self, body: bytes) -> EndpointResponse:
        """Send one request; see :class:`~abeyance.embedding.remote.Transport`."""
        headers = {"Content-Type": npy.MEDIA_TYPE, "Accept": npy.MEDIA_TYPE}
        try:
            response = self._pool.request("POST", self._url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            # Its text has the address in it; the kind says enough.
            raise EndpointUnreachable(
                f"the embedding endpoint cannot be reached: {type(error).__name__}"
            ) from error
        return EndpointResponse(
            response.status,
            response.headers.get(npy.MODEL_HEADER, ""),
            response.data,
            _seconds(response.headers.get("Retry-After", "")),
        )


def _seconds(text: str) -> float:
    """Return the seconds of a Retry-After header; 0.0 if there is none or it is a date."""
    return float(text) if text.isascii() and text.isdigit() else 0.0
