"""AWS on this machine: one loopback URL served by moto, and the system's resources made from the topology.

moto stands in for AWS itself, never for our own logic; :mod:`abeyance.local.moto` patches it where it differs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from cheroot import wsgi
from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    environ_key_for_header,
    should_preserve_original_header_name,
)
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from abeyance.deployment.settings import DeploymentSettings
from abeyance.local.buckets import BucketCall, parse_bucket_call
from abeyance.local.moto import HOST, REGION, patch_moto
from abeyance.local.same_origin import StartResponse, find_refusal, refuse, sandboxed
from abeyance.pipeline import topology
from abeyance.rekognition.cors import is_preflight, parse_origins, preflight_headers

#: Callers' requests in work or waiting for a function at one time; a client that long-polls a queue takes one of them.
CALLER_THREADS: Final = 320
#: Requests of the functions themselves; more than their workers have clients at work.
OWN_THREADS: Final = 32
MAX_OPEN_CONNECTIONS: Final = 500
#: Connections that the kernel holds until the server accepts them: a burst of callers comes at once.
BACKLOG: Final = 512
#: An unused connection stays open for this time.
IDLE_S: Final = 300


def is_api_request(environ: Mapping[str, Any]) -> bool:
    """Return True for a request to Rekognition."""
    return str(environ.get("HTTP_X_AMZ_TARGET", "")).startswith("RekognitionService.")


WsgiApp = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]


def environment(endpoint: str, principal: str = "local") -> dict[str, str]:
    """Return the variables that direct an AWS client to this machine; the key id names the principal."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": principal,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Router:
    """The WSGI application at the local URL: our own services first, everything else is moto's.

    No web page of another origin reaches either; see :mod:`abeyance.local.same_origin`. Pages of ``origins`` reach the
    Rekognition API.
    """

    def __init__(self, origins: frozenset[str] = frozenset()) -> None:
        self._origins = origins
        self._moto = DomainDispatcherApplication(create_backend_app)
        # Without a cache, moto reads its own folder and tries some hundred patterns to find the service of a host name.
        find = self._moto.get_backend_for_host
        self._moto.get_backend_for_host = functools.cache(find)  # type: ignore[method-assign]
        #: Told of every bucket that is made or deleted.
        self.on_bucket: Callable[[BucketCall], None] = lambda call: None
        self._services: list[tuple[Callable[[Mapping[str, Any]], bool], WsgiApp]] = []
        self._dynamodb = threading.RLock()

    def mount(self, matches: Callable[[Mapping[str, Any]], bool], app: WsgiApp) -> None:
        """Serve requests whose WSGI environment ``matches`` from ``app``."""
        self._services.append((matches, app))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        named = self._is_of_named_origin(environ)
        if reason := find_refusal(environ, int(environ["SERVER_PORT"]), origin_is_named=named):
            return refuse(reason, start_response)
        if named and environ["REQUEST_METHOD"] == "OPTIONS":
            headers = preflight_headers(environ["HTTP_ORIGIN"], self._origins)
            start_response("204 No Content", [*headers.items(), ("Content-Length", "0")])
            return [b""]
        for matches, app in self._services:
            if matches(environ):
                return app(environ, start_response)
        # DynamoDB's conditions and transactions are atomic; moto's are only if one request runs at a time.
        exclusive = environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB")
        with self._dynamodb if exclusive else contextlib.nullcontext():
            answer: Iterable[bytes] = self._moto(environ, self._watched(environ, sandboxed(start_response)))
            return answer

    def _is_of_named_origin(self, environ: Mapping[str, Any]) -> bool:
        """Return whether a page of a named origin calls the Rekognition API, or asks if it may; no more is open."""
        asked = {
            name: str(environ.get(f"HTTP_{name.upper().replace('-', '_')}", ""))
            for name in ("access-control-request-method", "access-control-request-headers")
        }
        calls = environ["REQUEST_METHOD"] == "POST" and is_api_request(environ)
        return environ.get("HTTP_ORIGIN") in self._origins and (
            calls or is_preflight(environ["REQUEST_METHOD"], asked)
        )

    def _watched(self, environ: Mapping[str, Any], start_response: StartResponse) -> StartResponse:
        call = parse_bucket_call(environ)
        if call is None:
            return start_response

        def start(status: str, *more: Any) -> Any:
            if status.startswith("2"):
                self.on_bucket(call)
            return start_response(status, *more)

        return start


class _Gateway(wsgi.Gateway_10):
    """HTTP to WSGI, with what moto needs beside it: the raw path, and the spelling of S3's metadata."""

    def get_environ(self) -> Any:
        environ: Any = super().get_environ()  # type: ignore[no-untyped-call]
        names = [name.decode("latin-1") for name in self.req.inheaders]
        environ["RAW_URI"] = environ["REQUEST_URI"]
        environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = {
            environ_key_for_header(name): name for name in names if should_preserve_original_header_name(name)
        }
        return environ


class LocalAws:
    """Two servers of one :class:`Router` on loopback, with the system's resources in it.

    Callers use the one at ``endpoint``. The functions use the other, at ``own_endpoint``: a caller that waits for a
    function holds a thread of its server, and what the function asks of AWS must not wait behind it.

    Connections stay open from one request to the next. moto's own server opens a connection and a thread for each
    request, which takes half as long again.
    """

    def __init__(self, port: int = 0, settings: DeploymentSettings | None = None) -> None:
        self.settings = settings or DeploymentSettings()
        self.router = Router(parse_origins(self.settings.cors_origins))
        self._clients: dict[tuple[str, str], Any] = {}
        self._clients_lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._servers: list[wsgi.Server] = []
        try:
            self.port, self.endpoint = self._listen(port, CALLER_THREADS)
            _, self.own_endpoint = self._listen(0, OWN_THREADS)
        except BaseException:
            self.stop()
            raise

    def _listen(self, port: int, threads: int) -> tuple[int, str]:
        """Open a server on a port, 0 for a free one; return its port and URL."""
        server = wsgi.Server(
            (HOST, port), self.router, numthreads=threads, timeout=IDLE_S, request_queue_size=BACKLOG
        )
        server.gateway = _Gateway
        server.keep_alive_conn_limit = MAX_OPEN_CONNECTIONS
        server.prepare()
        self._servers.append(server)
        self._threads.append(threading.Thread(target=server.serve, name="local-aws", daemon=True))
        port = server.bind_addr[1]
        return port, f"http://{HOST}:{port}"

    def start(self) -> None:
        """Serve, and create every bucket, table, rule and queue."""
        patch_moto()
        for thread in self._threads:
            thread.start()
        create_resources(self.client, self.settings)

    def stop(self) -> None:
        """Stop serving; all content is lost."""
        for server in self._servers:
            server.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def variables(self) -> dict[str, str]:
        """Return the environment of a function on this machine."""
        return {**environment(self.own_endpoint), **self.settings.to_environment()}

    def client(self, service: str, principal: str = "local") -> Any:
        """Return a boto3 client of the system's own; the same one every time, since making one takes long."""
        with self._clients_lock:
            if (service, principal) not in self._clients:
                self._clients[service, principal] = boto3.client(
                    service,
                    endpoint_url=self.own_endpoint,
                    region_name=REGION,
                    aws_access_key_id=principal,
                    aws_secret_access_key="local",  # noqa: S106 - moto asks for one and ignores it
                    config=Config(retries={"mode": "standard"}, max_pool_connections=32),
                )
            return self._clients[service, principal]


def create_resources(client: Callable[[str], Any], settings: DeploymentSettings) -> None:
    """Create what the CDK stacks create, as far as moto supports it: tables, buckets, bus, queues and rules."""
    dynamodb, s3, sqs, eventbridge = (client(name) for name in ("dynamodb", "s3", "sqs", "events"))
    kms = client("kms")
    kms.create_alias(AliasName=settings.access_keys_key, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    for table in topology.TABLES:
        _create_table(dynamodb, getattr(settings, table.setting), table)
    for bucket in topology.BUCKETS:
        _create_bucket(s3, getattr(settings, bucket.setting), bucket)
    eventbridge.create_event_bus(Name=settings.event_bus)
    for stage in topology.STAGES:
        _create_stage(sqs, eventbridge, settings, stage)


def _create_table(dynamodb: Any, name: str, table: topology.TableShape) -> None:
    keys = [(table.partition_key, "HASH")] + ([(table.sort_key, "RANGE")] if table.sort_key else [])
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
    )


def _create_bucket(s3: Any, name: str, bucket: topology.BucketShape) -> None:
    s3.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if bucket.object_lock else {}))
    if bucket.versioned and not bucket.object_lock:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    if bucket.events:
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )


def _create_stage(sqs: Any, eventbridge: Any, settings: DeploymentSettings, stage: topology.Stage) -> None:
    dead = sqs.create_queue(QueueName=stage.dead_letter_queue)["QueueUrl"]
    redrive = {"deadLetterTargetArn": _arn(sqs, dead), "maxReceiveCount": stage.max_receives}
    attributes = {"VisibilityTimeout": str(stage.visibility_timeout), "RedrivePolicy": json.dumps(redrive)}
    queue = sqs.create_queue(QueueName=stage.queue, Attributes=attributes)["QueueUrl"]
    for number, subscription in enumerate(stage.consumes):
        # No message group: moto delivers nothing with one to a standard queue, and its queues are not fair.
        target = {"Id": stage.name, "Arn": _arn(sqs, queue)}
        bus = "default" if subscription.default_bus else settings.event_bus
        rule = f"abeyance-{stage.name}-{number}"
        pattern = json.dumps(subscription.pattern(settings))
        eventbridge.put_rule(Name=rule, EventBusName=bus, EventPattern=pattern)
        eventbridge.put_targets(Rule=rule, EventBusName=bus, Targets=[target])


def _arn(sqs: Any, url: str) -> str:
    arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return arn
