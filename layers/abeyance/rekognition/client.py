"""For programs that call Abeyance: an ordinary boto3 client for a deployed URL. Runs at the caller's, not in AWS.

API Gateway verifies signatures made for ``execute-api``, and a Rekognition client signs for ``rekognition``; that is
all that has to change. A local URL does not verify signatures: there, ``AWS_ENDPOINT_URL`` is enough.
"""

from __future__ import annotations

from typing import Any

from abeyance.rekognition.gateway import PURPOSE_HEADER
from abeyance.rekognition.wire import SDK_FOLDER


def client(endpoint_url: str, region: str | None = None, *, purpose: str = "", **options: Any) -> Any:
    """A boto3 Rekognition client that signs for API Gateway and knows the operations on templates.

    Parameters
    ----------
    endpoint_url
        The stack's output ``RekognitionUrl``: ``https://<id>.execute-api.<region>.amazonaws.com/<stage>``.
    region
        Where it is deployed; else that of the environment.
    purpose
        What the calls are for, ``lower_snake``, such as ``missing_children``; a tenant is registered for purposes.
    options
        For ``boto3.Session.client``, such as ``config`` or ``aws_access_key_id``.

    Examples
    --------
    >>> abeyance = client("https://abc.execute-api.eu-central-1.amazonaws.com/v1", "eu-central-1")  # doctest: +SKIP
    >>> abeyance.list_collections()["CollectionIds"]  # doctest: +SKIP
    ['staff']
    """
    import boto3
    from botocore.session import Session

    session = Session()
    # The folder's additions are merged into botocore's own model, whichever version of it is installed.
    session.get_component("data_loader").search_paths.append(str(SDK_FOLDER))
    made = boto3.Session(botocore_session=session, region_name=region).client(
        "rekognition", endpoint_url=endpoint_url, **options
    )
    if purpose:
        made.meta.events.register("before-call.rekognition", lambda params, **_: _add(params, purpose))
    return made


def _add(params: dict[str, Any], purpose: str) -> None:
    params["headers"][PURPOSE_HEADER] = purpose
