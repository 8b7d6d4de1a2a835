"""A real deployment, used as its users use it, in the order of this file; it ends with its destruction."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from msgspec import structs
from PIL import Image
from tests.e2e.conftest import DOORS, Deployment, cdk
from tests.e2e.emulator import ACCOUNT, REGION
from tests.e2e.visitor import Visitor
from tests.ledgers import entries_of, verify

from abeyance.aws.dynamodb import DynamoTable
from abeyance.console.roles import Role
from abeyance.console.web.app import HEADERS
from abeyance.deployment.build import build_reconciler
from abeyance.deployment.parts import build_log_objects
from abeyance.ledger.defects import LogVerdict
from abeyance.ledger.lookup import Lookup
from abeyance.ledger.query import Query
from abeyance.ledger.reading import LoggedEntry
from abeyance.local.samples import fetch_samples
from abeyance.moratorium.brake import with_halt, without_halt
from abeyance.moratorium.document import parse
from abeyance.moratorium.presets import new_deployment
from abeyance.moratorium.schema import definition
from abeyance.moratorium.subjects import BrakeChange, ChangeRefused, FlagsChange, TenantChange
from abeyance.moratorium.tenants import Tenant, TenantTable
from abeyance.pipeline import topology
from abeyance.pipeline.events import FacesDeleted, Upload
from abeyance.pipeline.upload_records import KEY, UploadRecords
from abeyance.rekognition.client import client as api_client

pytestmark = pytest.mark.timeout(1500)

ACTIONS = ("detect", "analyze", "compare", "index", "search")


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    """Three photos of one president, one of another."""
    return {name: path.read_bytes() for name, path in fetch_samples("white-house-portraits").items()}


def test_listens_on_loopback_only(deployment: Deployment) -> None:
    assert deployment.emulator.listening() == {"0100007F"}


def test_register_tenants(deployment: Deployment) -> None:
    """Two officers register them; that nobody alone does is tried first. Flags are there from then on."""
    registry = TenantTable(DynamoTable(deployment.client("dynamodb"), deployment.settings.tenants_table))
    assert deployment.officer("alice").state()["flags"]["document"] == new_deployment()
    caller = deployment.client("sts").get_caller_identity()["Arn"]
    for name, sector, purpose, principal in (
        ("acme", "commercial", "access_control", caller),
        (
            "springfield-police",
            "law_enforcement",
            "criminal_investigation",
            f"arn:aws:iam::{ACCOUNT}:role/police",
        ),
    ):
        tenant = Tenant(
            id=name,
            sector=sector,
            jurisdiction="US-IL",
            actions=ACTIONS,
            purposes=(purpose,),
            principals=(principal,),
        )
        made = deployment.officer("alice").submit(TenantChange(tenant))
        with pytest.raises(ChangeRefused, match="their own"):
            deployment.officer("alice").approve(made.id, made.digest)
        assert deployment.officer("bob").approve(made.id, made.digest).state == "applied"
    assert {tenant.id for tenant in registry.all()} == {"acme", "springfield-police"}


def test_photo_is_indexed_and_found(deployment: Deployment, photos: dict[str, bytes]) -> None:
    started = time.monotonic()
    key = "acme/index/staff/first.jpg"
    indexed = deployment.ask(key, photos["obama.jpg"], purpose="access_control")
    deployment.figures["cold_upload_to_result_s"] = time.monotonic() - started
    assert indexed["event"] == "Faces Indexed"
    assert len(indexed["faces"]) == 1
    warm = []
    for number, name in enumerate(("obama2.jpg", "biden.jpg", "obama2.jpg", "biden.jpg")):
        started = time.monotonic()
        found = deployment.ask(f"acme/search/staff/{number}.jpg", photos[name], purpose="access_control")
        warm.append(time.monotonic() - started)
        assert found["event"] == "Faces Matched"
        matches = [match["face_id"] for face in found["faces"] for match in face["matches"]]
        assert matches == ([indexed["faces"][0]["face_id"]] if name == "obama2.jpg" else [])
    deployment.figures["warm_upload_to_result_s"] = sorted(warm)[len(warm) // 2]


def test_rekognition_api_answers_signed_requests(deployment: Deployment, photos: dict[str, bytes]) -> None:
    """API Gateway, its IAM authorisation and the function behind, through boto3's own Rekognition client."""
    identifier, stage = re.search(r"//([^.]+)\.[^/]+/(\w+)", deployment.outputs["RekognitionUrl"]).groups()
    region = deployment.client("s3").meta.region_name
    rekognition = api_client(
        f"{deployment.emulator.url}/_aws/execute-api/{identifier}/{stage}",
        region,
        purpose="access_control",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        verify=str(deployment.emulator.certificate),
        config=Config(read_timeout=60, retries={"total_max_attempts": 1}),
    )
    assert rekognition.list_collections()["CollectionIds"] == ["staff"]
    found = rekognition.search_faces_by_image(CollectionId="staff", Image={"Bytes": photos["obama2.jpg"]})
    assert len(found["FaceMatches"]) == 1


def _at_keys_url(deployment: Deployment, key: str, secret: str) -> Any:
    """A Rekognition client as AWS has it, at the URL for keys: signed for its host, sent to the emulator."""
    identifier, stage = re.search(
        r"//([^.]+)\.[^/]+/(\w+)/keys", deployment.outputs["RekognitionKeysUrl"]
    ).groups()
    host = f"{identifier}.execute-api.localhost:{deployment.emulator.port}"
    made = boto3.client(
        "rekognition",
        endpoint_url=f"https://{host}/{stage}/keys",
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        verify=str(deployment.emulator.certificate),
        config=Config(read_timeout=60, retries={"total_max_attempts": 1}),
    )

    def send(request: Any, **_: Any) -> None:
        request.url = request.url.replace(f"https://{host}", deployment.emulator.url)
        request.headers["Host"] = host

    made.meta.events.register("before-send.rekognition", send)
    return made


def test_sdks_sign_with_a_key_of_the_deployment(deployment: Deployment, photos: dict[str, bytes]) -> None:
    """Nothing of the SDK is changed: service ``rekognition``, at its own URL, where the function verifies."""
    key, proposal = deployment.officer("alice").create_key("acme")
    waiting = _at_keys_url(deployment, key.id, key.secret)
    with pytest.raises(ClientError) as refused:
        waiting.list_collections()
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert deployment.officer("bob").approve(proposal.id, proposal.digest).state == "applied"
    rekognition = _at_keys_url(deployment, key.id, key.secret)
    assert rekognition.list_collections()["CollectionIds"] == ["staff"]
    (face,) = rekognition.list_faces(CollectionId="staff")["Faces"]
    assert face["ExternalImageId"] == "first.jpg"
    for wrong in (
        _at_keys_url(deployment, key.id, "0" * len(key.secret)),
        _at_keys_url(deployment, "ABEY" + "A" * (len(key.id) - 4), key.secret),
    ):
        with pytest.raises(ClientError) as refused:
            wrong.list_collections()
        assert refused.value.response["Error"]["Code"] in (
            "InvalidSignatureException",
            "UnrecognizedClientException",
        )


def test_a_photo_is_taken_from_a_bucket_that_a_tenant_registered(
    deployment: Deployment, photos: dict[str, bytes]
) -> None:
    """The gate reads its tags and detect its bytes, with the rights that the template gives them."""
    s3 = deployment.client("s3")
    s3.create_bucket(Bucket=DOORS, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_notification_configuration(
        Bucket=DOORS, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    registry = TenantTable(DynamoTable(deployment.client("dynamodb"), deployment.settings.tenants_table))
    acme = registry.get("acme")
    assert acme
    rule = f"{DOORS}/in/=search:staff:access_control"
    registered = structs.replace(acme, buckets=(DOORS,), uploads=(rule,))
    assert deployment.agree(TenantChange(registered)).state == "applied"
    s3.put_object(Bucket=DOORS, Key="in/a b.jpg", Body=photos["obama2.jpg"])
    found = deployment.result(f"acme/s3:{DOORS}/in/a b.jpg")
    assert (found["event"], found["upload"]["registration"]) == ("Faces Matched", 1)
    assert len(found["faces"][0]["matches"]) == 1


def test_police_upload_is_halted_undecoded(deployment: Deployment, photos: dict[str, bytes]) -> None:
    answer = deployment.ask(
        "springfield-police/search/staff/suspect.jpg", photos["obama2.jpg"], purpose="criminal_investigation"
    )
    assert answer["event"] == "Upload Halted"
    assert answer["decision"]["fault"] == ""
    assert answer["decision"]["reason"]


def test_poison_ends_as_rejection(deployment: Deployment) -> None:
    body = io.BytesIO()
    Image.new("RGB", (640, 480)).save(body, "JPEG")
    for name, poison in (
        ("text.jpg", b"no photo"),
        ("short.jpg", body.getvalue()[:200]),
        ("blank.jpg", body.getvalue()),
    ):
        answer = deployment.ask(f"acme/index/staff/{name}", poison, purpose="access_control")
        assert answer["event"] == "Upload Rejected", name


@pytest.mark.parametrize(
    ("function", "action", "resource", "decision"),
    [
        ("gate", "kms:Decrypt", "photos", "explicitDeny"),
        ("gate", "s3:GetObject", "uploads_bucket", "allowed"),
        ("gate", "dynamodb:GetItem", "gallery_table", "implicitDeny"),
        ("detect", "kms:Decrypt", "templates", "implicitDeny"),
        ("recognize", "dynamodb:Query", "gallery_table", "allowed"),
        ("recognize", "dynamodb:PutItem", "ledger_table", "implicitDeny"),
        ("ledger", "dynamodb:PutItem", "ledger_table", "allowed"),
        ("checkpoint", "dynamodb:PutItem", "ledger_table", "implicitDeny"),
        ("index", "dynamodb:PutItem", "ledger_table", "implicitDeny"),
        ("index", "dynamodb:GetItem", "ledger_table", "allowed"),
        ("ledger", "dynamodb:DeleteItem", "ledger_table", "implicitDeny"),
        ("ledger", "dynamodb:GetItem", "gallery_table", "implicitDeny"),
        ("flags", "appconfig:StartDeployment", "*", "implicitDeny"),
        ("console", "appconfig:StartDeployment", "*", "implicitDeny"),
        ("console", "dynamodb:PutItem", "ledger_table", "implicitDeny"),
        ("console", "dynamodb:GetItem", "ledger_table", "allowed"),
    ],
)
def test_deployed_roles_keep_the_promises(
    deployment: Deployment, function: str, action: str, resource: str, decision: str
) -> None:
    region = deployment.client("s3").meta.region_name
    named = getattr(deployment.settings, resource, resource)
    if resource.endswith("_bucket"):
        arn = f"arn:aws:s3:::{named}/acme/index/staff/first.jpg"
    elif resource.endswith("_table"):
        arn = f"arn:aws:dynamodb:{region}:{ACCOUNT}:table/{named}"
    else:
        arn = resource if resource == "*" else _key(deployment, resource)
    answer = deployment.client("iam").simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:role/abeyance-{function}-{region}",
        ActionNames=[action],
        ResourceArns=[arn],
    )
    assert answer["EvaluationResults"][0]["EvalDecision"] == decision


def test_console_turns_strangers_away(deployment: Deployment) -> None:
    stranger = Visitor(deployment)
    page = stranger.get("/console/signin")
    assert page.status == 200
    assert "/console/signin/provider" in page.text
    forged = Visitor(deployment)
    forged._cookie = "abeyance_console=eyJwZXJzb24iOlsieCIsIngiLFsiYXVkaXRvciJdXX0.aaaa.bbbb"
    answers = [page]
    for visitor in (stranger, forged):
        for path in ("/console/", "/console/ledger", "/console/review", "/console/proposals/new"):
            answers.append(
                visitor.get(path, **{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "127.0.0.1"})
            )
            assert (answers[-1].status, answers[-1].headers["location"]) == (303, "/console/signin"), path
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name.lower()] == value
        assert "max-age" in answer.headers["strict-transport-security"]
    assert stranger.post("/console/signin", person="clara@local").status == 403
    assert stranger.get("/elsewhere").status == 404


def test_sign_in_is_set_up_for_this_console_and_nothing_else(deployment: Deployment) -> None:
    """Cognito as it was deployed, and the console's right to ask it for its own secret."""
    cognito, region = deployment.client("cognito-idp"), deployment.client("s3").meta.region_name
    pool = deployment.outputs["ConsoleUserPool"]
    groups = {group["GroupName"] for group in cognito.list_groups(UserPoolId=pool)["Groups"]}
    assert groups == {str(role) for role in Role}
    (listed,) = cognito.list_user_pool_clients(UserPoolId=pool)["UserPoolClients"]
    client = cognito.describe_user_pool_client(UserPoolId=pool, ClientId=listed["ClientId"])["UserPoolClient"]
    assert client["ClientSecret"]
    assert client["CallbackURLs"] == [f"{deployment.outputs['ConsoleUrl']}/signin/callback"]
    for action, decision in (("DescribeUserPoolClient", "allowed"), ("AdminCreateUser", "implicitDeny")):
        answer = deployment.client("iam").simulate_principal_policy(
            PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:role/abeyance-console-{region}",
            ActionNames=[f"cognito-idp:{action}"],
            ResourceArns=[f"arn:aws:cognito-idp:{region}:{ACCOUNT}:userpool/{pool}"],
        )
        assert answer["EvaluationResults"][0]["EvalDecision"] == decision, action


def test_each_role_finds_its_pages_and_no_others(deployment: Deployment) -> None:
    """Under the deployed role, with IAM enforced: a page that may not read what it needs would fail."""
    pages = {
        "/console/review": Role,
        "/console/moratoria": (Role.OFFICER, Role.AUDITOR),
        "/console/moratoria/explain?tenant=acme&action=search&purpose=access_control&at=2026-01-01": (
            Role.OFFICER,
            Role.AUDITOR,
        ),
        "/console/moratoria/timeline.svg": (Role.OFFICER, Role.AUDITOR),
        "/console/proposals": (Role.OFFICER, Role.AUDITOR),
        "/console/proposals/new": (Role.OFFICER,),
        "/console/galleries": (Role.OFFICER, Role.AUDITOR),
        "/console/galleries/acme/staff": (Role.OFFICER, Role.AUDITOR),
        "/console/accuracy": (Role.OFFICER, Role.AUDITOR),
        "/console/ledger": (Role.AUDITOR,),
        "/console/ledger/1": (Role.AUDITOR,),
        "/console/ledger/1.tlog-proof": (Role.AUDITOR,),
        "/console/ledger/export/0": (Role.AUDITOR,),
    }
    _sign(deployment)
    for role in Role:
        visitor = Visitor(deployment, str(role), role)
        for path, roles in pages.items():
            assert visitor.get(path).status == (200 if role in roles else 403), (role, path)
    auditor = Visitor(deployment, "edda", Role.AUDITOR)
    assert "The log is broken" not in auditor.get("/console/ledger").text
    assert "Proven: entry 1 is on the log" in auditor.get("/console/ledger/1").text


def test_match_waits_for_people_and_is_released(deployment: Deployment, photos: dict[str, bytes]) -> None:
    """Tightening by one officer; then a judgement at the console, and its result."""
    document = deployment.officer("alice").state()["flags"]["document"]
    document["flags"]["look"] = definition("Look", "Somebody looks at every match.")
    document["values"]["look"] = {
        **{"enabled": True, "effect": "restrict", "actions": ["search"], "sectors": ["commercial"]},
        **{"jurisdictions": ["all"], "starts": "2020-01-01T00:00:00Z", "on_expiry": "hold"},
        **{"human_review": 1, "reason": "Somebody looks at every match.", "source": "The end-to-end test"},
    }
    clara, ada = Visitor(deployment, "clara", Role.OFFICER), Visitor(deployment, "ada", Role.REVIEWER)
    forged = clara.post("/console/proposals", headers={"Origin": "https://evil.example"}, do="at_once")
    assert forged.status == 403
    # A session that the console's own key signed is nobody to the change service.
    forged = clara.post("/console/proposals", document=json.dumps(document), note="look", do="at_once")
    assert (forged.status, "not one person" in forged.text) == (409, True), forged.text
    assert deployment.officer("alice").submit(FlagsChange(document)).state == "applied"
    for number in range(60):
        key = f"acme/search/staff/looked-at-{number}.jpg"
        answer = deployment.ask(key, photos["obama2.jpg"], purpose="access_control")
        if answer.get("reviewers"):
            break
        time.sleep(1)
    assert answer["faces"][0]["matches"] == []
    _eventually(lambda: "1 comparison waits" in ada.get("/console/review").text, 30)
    address = ada.post("/console/review/next").headers["location"]
    assert "Is this one person?" in ada.get(address).text
    for which in ("probe", "candidate"):
        assert ada.get(f"{address}/{which}.png").headers["content-type"] == "image/png"
    judged = ada.post(f"{address}/judge", verdict="same", ground="facial_features")
    assert judged.status == 303, judged.text
    released = deployment.result(key)
    assert released["event"] == "Matches Released"
    assert len(released["faces"][0]["matches"]) == 1


def test_person_is_erased_at_the_console(deployment: Deployment, photos: dict[str, bytes]) -> None:
    # The one in the other collection stays.
    for key in ("acme/index/visitors/stays.jpg", "acme/index/staff/leaver.jpg"):
        assert deployment.ask(key, photos["biden.jpg"], purpose="access_control")["event"] == "Faces Indexed"
    clara = Visitor(deployment, "clara", Role.OFFICER)
    name = {"by": "external_image_id", "name": "leaver.jpg"}
    assert "1 face and 0 users" in clara.post("/console/galleries/acme/staff/find", **name).text
    assert clara.post("/console/galleries/acme/staff/erase", **name).status == 409
    erased = clara.post("/console/galleries/acme/staff/erase", sure="yes", **name)
    assert "The receipt is on the ledger" in erased.text
    assert clara.post("/console/galleries/acme/staff/find", **name).status == 404


def test_the_brake_halts_the_next_upload(deployment: Deployment, photos: dict[str, bytes]) -> None:
    officer = deployment.officer("alice")
    document = with_halt(
        officer.state()["brake"]["document"],
        "all_stop",
        reason="The auditor asked for a stop.",
        starts=datetime.now(UTC),
    )
    started = time.monotonic()
    assert officer.submit(BrakeChange(document)).state == "applied"
    number = 0
    while time.monotonic() - started < 60:
        key = f"acme/search/staff/after-{number}.jpg"
        answer = deployment.ask(key, photos["obama2.jpg"], purpose="access_control")
        if answer["event"] in ("Upload Halted", "Recognition Halted"):
            break
        number += 1
        time.sleep(1)
    deployment.figures["flag_to_halt_s"] = time.monotonic() - started
    assert answer["decision"]["reason"] == "The auditor asked for a stop."
    assert answer["decision"]["fault"] == ""


def test_lifting_it_takes_two_people(deployment: Deployment) -> None:
    released = without_halt(deployment.officer("alice").state()["brake"]["document"], "all_stop")
    proposed = deployment.officer("alice").submit(BrakeChange(released))
    assert proposed.state == "proposed"
    with pytest.raises(ChangeRefused, match="their own"):
        deployment.officer("alice").approve(proposed.id, proposed.digest)
    assert deployment.officer("bob").approve(proposed.id, proposed.digest).state == "applied"
    assert deployment.officer("bob").state()["brake"]["digest"] == parse(released).digest


def test_deleted_photo_takes_its_faces_along(deployment: Deployment) -> None:
    s3, dynamodb = deployment.client("s3"), deployment.client("dynamodb")
    s3.delete_object(Bucket=deployment.settings.uploads_bucket, Key="acme/index/staff/first.jpg")

    def deleted() -> bool:
        table = DynamoTable(dynamodb, deployment.settings.uploads_table, partition=KEY, sort="")
        records = UploadRecords(table, 1, time.time)
        bucket, key = deployment.settings.uploads_bucket, "acme/index/staff/first.jpg"
        (latest,) = records.latest([Upload(bucket=bucket, key=key, version="", sequencer="")])
        return isinstance(records.recorded(latest).get("recognize"), FacesDeleted)

    _eventually(deleted, 60)


def test_ledger_tells_it_all_and_is_whole(deployment: Deployment) -> None:
    expected = {
        "Upload Permitted",
        "Upload Halted",
        "Upload Rejected",
        "Faces Detected",
        "Faces Indexed",
        "Faces Matched",
        "Faces Deleted",
        "Matches Released",
        "review.judged",
        "moratorium.tightened",
        "moratorium.document",
        "moratorium.approved",
        "moratorium.applied",
        "moratorium.refused",
        "person.erased",
    }

    def entries() -> list[LoggedEntry]:
        return entries_of(deployment.client, deployment.settings)

    _eventually(lambda: expected <= {entry.type for entry in entries()}, 60)
    _sign(deployment)
    report = verify(deployment.client, deployment.settings)
    assert report.verdict is LogVerdict.WHOLE, report
    assert (report.signed, report.opened) == (report.size, report.size)
    assert "obama" not in " ".join(str(entry.body) for entry in entries())


def test_entries_are_found(deployment: Deployment) -> None:
    """The function that writes the index runs; what is too young for it is read from the log."""
    answer = deployment.client("lambda").invoke(FunctionName="abeyance-index", Payload=b"{}")
    state = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, state
    objects = build_log_objects(deployment.settings, deployment.client)
    lookup = Lookup(objects, state["size"], readers=4)
    (entry,) = lookup.entries(Query(type="person.erased"))
    assert lookup.find(entry.id) == entry.index
    assert {one.type for one in lookup.entries(Query(tenant="acme", action="index"))} >= {"Faces Indexed"}


def test_nothing_that_happened_is_missing_on_the_ledger(deployment: Deployment) -> None:
    since = datetime.now(UTC) - timedelta(hours=3)
    found = build_reconciler(deployment.settings, deployment.client).compare(since, grace=timedelta(0))
    assert found.gaps == ()
    assert found.traces.keys() >= {"record", "result", "face", "review"}


def test_nothing_was_given_up_on(deployment: Deployment) -> None:
    sqs = deployment.client("sqs")
    for stage in topology.STAGES:
        url = sqs.get_queue_url(QueueName=stage.dead_letter_queue)["QueueUrl"]
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        assert counts["Attributes"]["ApproximateNumberOfMessages"] == "0", stage.name
    for name, peak in deployment.emulator.memory().items():
        deployment.figures[f"peak_mb_{name}"] = peak / 1e6


def test_destroy(deployment: Deployment) -> None:
    s3 = deployment.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"].startswith("abeyance"):
            _empty(s3, bucket["Name"])
    deployment.figures["destroy_s"] = cdk(
        deployment.emulator, "destroy", "--all", "--force", *deployment.context
    )
    left = deployment.client("cloudformation").list_stacks(
        StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_FAILED"]
    )["StackSummaries"]
    assert [stack["StackName"] for stack in left] == ["CDKToolkit"]


def _sign(deployment: Deployment) -> None:
    """Ask the function that signs, which is asked every minute otherwise."""
    answer = deployment.client("lambda").invoke(FunctionName="abeyance-checkpoint", Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()


def _key(deployment: Deployment, protects: str) -> str:
    kms = deployment.client("kms")
    for key in kms.list_keys()["Keys"]:
        found = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
        if protects in found.get("Description", ""):
            return str(found["Arn"])
    raise AssertionError(f"there is no key for {protects}")


def _empty(s3: Any, bucket: str) -> None:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            s3.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])


def _eventually(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.3)
