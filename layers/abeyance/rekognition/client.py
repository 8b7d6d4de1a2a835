"""An ordinary boto3 client for a deployed URL, for programs that call Abeyance.

API Gateway verifies signatures made for ``execute-api``; a Rekognition client signs for ``rekognition``. Nothing else
has to change. A local URL verifies no signatures: there, ``AWS_ENDPOINT_URL`` is enough.
"""

from __future__ import annotations

from typing import Any

from abeyance.rekognition.gateway import PURPOSE_HEADER
from abeyance.rekognition.wire import SDK_FOLDER


def client(endpoint_url: str, region: str | None = None, *, purpose: str = "", **options: Any) -> Any:
    """Return a boto3 Rekognition client that signs for API Gateway and knows the operations on templates.

    Parameters
    ----------
    endpoint_url
        The stack's output ``RekognitionUrl``: ``https://<id>.execute-api.<region>.amazonaws.com/<stage>``.
    region
        Region of the deployment; by default that of the environment.
    purpose
        Purpose of the calls, ``lower_snake``, such as ``missing_children``; tenants are registered for purposes.
    options
        Options of ``boto3.Session.client``, such as ``config`` or ``aws_access_key_id``.

    Examples
    --------
    >>> rekognition = client("https://abc.execute-api.eu-central-1.amazonaws.com/v1", "eu-central-1")  # doctest: +SKIP
    >>> rekognition.list_collections()["CollectionIds"]  # doctest: +SKIP
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
        made.meta.events.register(
            "before-call.rekognition", lambda params, **_: params["headers"].update({PURPOSE_HEADER: purpose})
        )
    return made
