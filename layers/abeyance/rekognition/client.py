"""An ordinary boto3 client for a deployed URL, for programs that call Abeyance.

API Gateway verifies signatures made for ``execute-api``; a Rekognition client signs for ``rekognition``. So does one
with an access key of the deployment. Nothing else has to change. A local URL verifies no signatures: there,
``AWS_ENDPOINT_URL`` is enough.
"""

from __future__ import annotations

from typing import Any

from abeyance.moratorium.access_keys import is_key_id
from abeyance.rekognition.gateway import AUTHORIZATION_HEADER, PURPOSE_HEADER
from abeyance.rekognition.wire import SDK_FOLDER


def client(
    endpoint_url: str,
    region: str | None = None,
    *,
    purpose: str = "",
    authorization: str = "",
    **options: Any,
) -> Any:
    """Return a boto3 Rekognition client that signs for API Gateway and knows the operations on templates.

    With an access key of the deployment it signs for Rekognition; then ``endpoint_url`` is ``RekognitionKeysUrl``.

    Parameters
    ----------
    endpoint_url
        The stack's output ``RekognitionUrl``: ``https://<id>.execute-api.<region>.amazonaws.com/<stage>``.
    region
        Region of the deployment; by default that of the environment.
    purpose
        Purpose of the calls, ``lower_snake``, such as ``missing_children``; tenants are registered for purposes.
    authorization
        Number of the authorisation that the calls use, where a moratorium asks for one.
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
    caller = boto3.Session(botocore_session=session, region_name=region)
    made = caller.client("rekognition", endpoint_url=endpoint_url, **options)
    credentials = None if "aws_access_key_id" in options else caller.get_credentials()
    if is_key_id(options.get("aws_access_key_id") or (credentials.access_key if credentials else "")):
        made.meta.events.register("before-sign.rekognition", _sign_for_rekognition)
    given = {PURPOSE_HEADER: purpose, AUTHORIZATION_HEADER: authorization}
    if headers := {name: value for name, value in given.items() if value}:
        made.meta.events.register(
            "before-call.rekognition", lambda params, **_: params["headers"].update(headers)
        )
    return made


def _sign_for_rekognition(request: Any, **_: Any) -> None:
    request.context.setdefault("signing", {})["signing_name"] = "rekognition"
