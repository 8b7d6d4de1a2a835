"""The console over moto's tables, queues and buckets, without the other functions."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from flask import Flask
from tests.ledgers import entries_of, sign
from tests.office import ApiGateway
from werkzeug.test import Client, TestResponse

from abeyance.aws.clients import client as shared_client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.aws.timestamps import timestamp
from abeyance.console.gateway import answer as through_gateway
from abeyance.console.web.app import create_app
from abeyance.deployment.build import build_console, build_review
from abeyance.deployment.flags import build_flags
from abeyance.deployment.parts import build_sequencer
from abeyance.deployment.settings import ConsoleSettings, DeploymentSettings, FlagsSettings, ReviewSettings
from abeyance.embedding.npy import encode
from abeyance.gallery.errors import CollectionExists
from abeyance.gallery.model import CollectionRef, NewFace, SourceObject
from abeyance.gallery.store import DynamoGallery
from abeyance.ledger.documents import DOCUMENT, GUARDRAILS_DOCUMENT
from abeyance.ledger.entry import Record, make_entry
from abeyance.ledger.reading import LoggedEntry
from abeyance.local.aws import LocalAws, environment
from abeyance.local.gateway import LOCAL_PRINCIPALS, http_api_event
from abeyance.local.tenants import TENANTS
from abeyance.moratorium.decide import Clause, Decision
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.schema import definition
from abeyance.moratorium.tenants import TenantTable
from abeyance.pipeline import events
from abeyance.pipeline.batch import Batch, Message, answer
from abeyance.pipeline.events import DetectedFace, FacesMatched, Match, SearchedFace, Upload
from abeyance.pipeline.leftovers import face_id, review_key
from abeyance.pipeline.record import RecordDecisions
from abeyance.pipeline.upload_records import KEY, UploadRecords

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

STAFF = CollectionRef("acme", "staff")
MODEL = "test-model@000000000000"


def restrict(**attributes: Any) -> dict[str, Any]:
    """Return a flags document: the police halt, and ``review``: two reviewers for commercial searches."""
    document = new_deployment()
    document["flags"]["review"] = definition("Review", "People look.")
    document["values"]["review"] = {
        "enabled": True,
        "effect": "restrict",
        "actions": ["search"],
        "sectors": ["commercial"],
        "jurisdictions": ["all"],
        "starts": "2020-01-01T00:00:00Z",
        "on_expiry": "lift",
        "human_review": 2,
        "reason": "People look at every match.",
        "source": "Test",
        **attributes,
    }
    return document


class World:
    """The console, its surroundings, and the steps of a test."""

    def __init__(self, local: LocalAws, flags: Path) -> None:
        self.local = local
        self.flags = flags
        self.settings = local.settings.replace(flags=f"file:{flags}")
        self.write_flags(restrict())
        client = local.client
        for tenant in TENANTS:
            TenantTable(DynamoTable(client("dynamodb"), self.settings.tenants_table)).add(tenant)
        self.gallery = DynamoGallery(
            client("dynamodb"), self.settings.gallery_table, client("s3"), self.settings.gallery_bucket
        )
        self.uploads = UploadRecords(
            DynamoTable(client("dynamodb"), self.settings.uploads_table, partition=KEY, sort=""),
            30,
            lambda: 1e9,
        )
        changes = build_flags(
            FlagsSettings.of(
                flags=f"file:{flags}",
                sign_in="made-up:key",
                first_principals=json.dumps(LOCAL_PRINCIPALS),
            ),
            client,
        )
        gateway = ApiGateway(changes, signer="console")
        self.services = build_console(
            ConsoleSettings.of(flags=f"file:{flags}", console_identity="loopback:key"),
            lambda service: gateway if service == "execute-api" else client(service),
        )
        self.app = create_app(self.services)

    def write_flags(self, document: dict[str, Any]) -> None:
        self.flags.write_text(json.dumps(document))

    def enrol(self, name: str, key: str = "acme/index/staff/a.png") -> str:
        """Add a face with its chip to the gallery; return its id."""
        upload = Upload(
            bucket="uploads", key=key, version=name, sequencer="0A", tenant="acme", collection="staff"
        )
        random = np.random.default_rng(len(name))
        template = random.normal(size=8).astype(np.float32)
        with contextlib.suppress(CollectionExists):
            self.gallery.create_collection(STAFF, model=MODEL, dimension=8)
        made = NewFace(
            id=face_id(upload, 0),
            model=MODEL,
            template=template / np.linalg.norm(template),
            external_image_id=name,
        )
        self.gallery.index(STAFF, [made], source=SourceObject("uploads", key, name, "0A"))
        self.put_chips(upload)
        return made.id

    def put_chips(self, upload: Upload) -> None:
        chips = np.full((1, 112, 112, 3), 127, np.uint8)
        self.s3("put_object", Key=f"{upload.folder}{upload.identity}.npy", Body=encode(chips))

    def s3(self, operation: str, **arguments: Any) -> Any:
        arguments.setdefault("Bucket", self.settings.chips_bucket)
        return getattr(self.local.client("s3"), operation)(**arguments)

    def search(self, key: str, *candidates: str, reviewers: int = 2, similarity: float = 92.5) -> Upload:
        """Write what recognition leaves for a search under review, and deliver it to the queue twice."""
        upload = Upload(
            bucket="uploads",
            key=key,
            version="v",
            sequencer="0B",
            tenant="acme",
            action="search",
            collection="staff",
        )
        assert self.uploads.claim(upload)
        face = DetectedFace(
            box=events.Box(0.1, 0.1, 0.2, 0.2),
            confidence=99.0,
            quality=events.Quality(brightness=50, sharpness=50, yaw=0, pitch=0, roll=0),
            landmarks=((0.1, 0.1),) * 5,
            chip=0,
        )
        matched = FacesMatched(
            id=FacesMatched.identify(upload),
            time=timestamp(),
            upload=upload,
            decision=Decision(
                outcome="permit",
                clause=Clause.RESTRICTED,
                reason="Restricted.",
                tenant="acme",
                action="search",
                purpose="access_control",
                human_review=reviewers,
            ),
            model=MODEL,
            threshold=80.0,
            faces=(
                SearchedFace(
                    face=face,
                    matches=tuple(
                        Match(face_id=one, similarity=similarity, external_image_id="Jane Doe")
                        for one in candidates
                    ),
                ),
            ),
            reviewers=reviewers,
        )
        if candidates:
            self.s3("put_object", Key=review_key(upload), Body=msgspec.json.encode(matched))
        self.put_chips(upload)
        hidden = msgspec.structs.replace(
            matched, faces=tuple(msgspec.structs.replace(one, matches=()) for one in matched.faces)
        )
        self.uploads.record("recognize", hidden)
        enqueue = build_review(ReviewSettings(), self.local.client)
        envelope = {"detail-type": FacesMatched.detail_type, "detail": msgspec.to_builtins(hidden)}
        batch = Batch.of([Message("m", 1, envelope), Message("n", 2, envelope)])
        enqueue(batch)
        assert batch.failures == []
        return upload

    def result(self, upload: Upload) -> dict[str, Any] | None:
        """Return the result document, if there is one."""
        try:
            body = self.s3("get_object", Bucket=self.settings.results_bucket, Key=f"{upload.key}.json")[
                "Body"
            ]
        except self.local.client("s3").exceptions.NoSuchKey:
            return None
        document: dict[str, Any] = json.loads(body.read())
        return document

    def write_ledger(self) -> list[str]:
        """Do the work of the ledger function; return the types of all entries but those of documents."""
        sqs = self.local.client("sqs")
        url = sqs.get_queue_url(QueueName=self.settings.ledger_queue)["QueueUrl"]
        writer = RecordDecisions(build_sequencer(self.settings, self.local.client), b"for-one-machine-only")
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in messages]
            assert answer({"Records": records}, writer) == {"batchItemFailures": []}
            for one in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return [entry.type for entry in self.entries() if entry.type not in (DOCUMENT, GUARDRAILS_DOCUMENT)]

    def append(self, *records: Record) -> None:
        """Write records to the ledger, past its queue."""
        entries = [make_entry(record, secrets.token_bytes(16)) for record in records]
        build_sequencer(self.settings, self.local.client).append(entries, 0.0)

    def entries(self) -> list[LoggedEntry]:
        """Return the entries of the ledger."""
        return entries_of(self.local.client, self.settings)

    def sign(self) -> int:
        """Do the work of the function that signs; return the size of the checkpoint."""
        return int(sign(self.local.client, self.settings)["size"])

    def browser(self, who: str = "") -> Browser:
        """Return a browser, signed in as one of the local people."""
        browser = Browser(self)
        if who:
            browser.get("/console/signin")
            assert browser.post("/console/signin", person=f"{who}@local").status_code == 303
        return browser


def deployed(app: Flask) -> WSGIApplication:
    """Return the application behind events of an HTTP API, as in a deployment."""

    def gateway(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        given = through_gateway(app, json.loads(json.dumps(http_api_event(environ, body))))
        cookies = [("Set-Cookie", cookie) for cookie in given["cookies"]]
        start_response(f"{given['statusCode']} Answered", [*given["headers"].items(), *cookies])
        return [base64.b64decode(given["body"])]

    return gateway


class Browser:
    """A client with cookies and the form token of the last page."""

    def __init__(self, world: World) -> None:
        self.client = Client(deployed(world.app), use_cookies=True)
        self.token = ""

    def get(self, path: str, **headers: str) -> TestResponse:
        answer = self.client.get(path, headers={"Host": "127.0.0.1:4566", **headers}, environ_base=HERE)
        found = (
            re.search(r'name="csrf" value="([^"]+)"', answer.text) if "html" in answer.content_type else None
        )
        if found:
            self.token = found.group(1)
        return answer

    def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> TestResponse:
        form.setdefault("csrf", self.token)
        return self.client.post(
            path, data=form, headers={"Host": "127.0.0.1:4566", **(headers or {})}, environ_base=HERE
        )


HERE = {"REMOTE_ADDR": "127.0.0.1"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Start a new one for each test."""
    local = LocalAws(0, DeploymentSettings())
    local.start()
    for name, value in environment(local.endpoint).items():
        monkeypatch.setenv(name, value)
    shared_client.cache_clear()
    try:
        yield World(local, tmp_path / "flags.json")
    finally:
        shared_client.cache_clear()
        local.stop()


__all__ = ["Browser", "World", "deployed", "restrict", "uuid"]
