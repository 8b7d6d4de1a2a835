"""The promises of the policies: docs/operations.md, "Who may do what"."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

pytest.importorskip("aws_cdk", reason="pip install 'abeyance[infra]'")

from infra.constructs.lookup import QUERIES
from tests.infra.conftest import Synthesise
from tests.infra.policies import (
    WILDCARDS,
    WITHOUT_RESOURCE,
    Templates,
    may,
    owners_of,
    roles,
    statements,
    text,
)

from abeyance.ledger.index_files import rows_key
from abeyance.ledger.query import IndexRow
from abeyance.pipeline.senders import DIRECT_TYPES


def logical(templates: Templates, kind: str, start: str) -> str:
    """``<LogicalId>`` of the one resource of a kind whose id starts so."""
    (found,) = {
        name
        for template in templates.values()
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind and name.startswith(start)
    }
    return f"<{found}>"


@pytest.fixture(scope="module")
def resources(templates: Templates) -> dict[str, str]:
    found = {
        name: logical(templates, "AWS::DynamoDB::Table", f"Tables{name}") for name in ("Gallery", "Ledger")
    }
    found |= {
        f"{name}Bucket": logical(templates, "AWS::S3::Bucket", f"Buckets{name}")
        for name in ("Gallery", "Uploads")
    }
    return found | {
        name: logical(templates, "AWS::KMS::Key", f"Keys{name}") for name in ("Photos", "Templates")
    }


def of(templates: Templates, *functions: str) -> set[str]:
    return {roles(templates)[function] for function in functions}


def test_gate_reads_heads_and_cannot_decrypt(templates: Templates, resources: dict[str, str]) -> None:
    (gate,) = of(templates, "gate")
    assert may(gate, "s3:GetObject", f"{resources['UploadsBucket']}/acme/index/staff/a.jpg", templates)
    assert not may(gate, "kms:Decrypt", resources["Photos"], templates)
    denied = [found for found in statements(templates) if found.owner == gate and found.effect == "Deny"]
    assert [(found.actions, found.resources, found.conditions) for found in denied] == [
        (("kms:Decrypt",), (resources["Photos"],), {})
    ]
    assert owners_of("kms:Decrypt", resources["Photos"], templates) == of(
        templates, "detect", "frames", "recognize", "api", "console"
    )


def test_uploads_cannot_choose_another_key(templates: Templates, resources: dict[str, str]) -> None:
    """Otherwise an uploader could give the gate a photo that it can read."""
    state = templates["AbeyanceState"]["Resources"]
    (policy,) = [
        resource["Properties"]["PolicyDocument"]["Statement"]
        for resource in state.values()
        if resource["Type"] == "AWS::S3::BucketPolicy"
        and text(resource["Properties"]["Bucket"], templates) == resources["UploadsBucket"]
    ]
    refused = {
        found["Sid"]: found["Condition"] for found in policy if found["Effect"] == "Deny" and "Sid" in found
    }
    header = "s3:x-amz-server-side-encryption"
    assert refused["OnlyKms"] == {"StringNotEquals": {header: "aws:kms"}, "Null": {header: "false"}}
    assert (
        text(refused["OnlyOurKey"]["StringNotEquals"][f"{header}-aws-kms-key-id"], templates)
        == resources["Photos"]
    )
    assert refused["NoKeyOfTheirOwn"] == {"Null": {f"{header}-customer-algorithm": "false"}}


def test_head_needs_no_decryption() -> None:
    """By the API's description, HEAD needs the key only in checksum mode, which botocore turns on for GET only."""
    import botocore.session

    s3 = botocore.session.get_session().get_service_model("s3")
    assert "requestValidationModeMember" in s3.operation_model("GetObject").http_checksum
    assert not s3.operation_model("HeadObject").http_checksum


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("dynamodb:GetItem", "Gallery"),
        ("dynamodb:Query", "Gallery"),
        ("dynamodb:Scan", "Gallery"),
        ("dynamodb:BatchGetItem", "Gallery"),
        ("kms:Decrypt", "Templates"),
    ],
)
def test_only_recognize_api_and_the_console_read_templates(
    templates: Templates, resources: dict[str, str], action: str, what: str
) -> None:
    """The console, because it erases."""
    readers = of(templates, "recognize", "api", "console")
    assert owners_of(action, resources[what], templates) <= readers
    assert owners_of("s3:GetObject", f"{resources['GalleryBucket']}/x", templates) == readers


def test_who_sequences_cannot_sign_and_who_signs_cannot_sequence(
    templates: Templates, resources: dict[str, str]
) -> None:
    sequencer, signer = of(templates, "ledger"), of(templates, "checkpoint")
    assert owners_of("dynamodb:PutItem", resources["Ledger"], templates) == sequencer
    for action in (
        *("UpdateItem", "DeleteItem", "BatchWriteItem"),
        *("DeleteTable", "UpdateTable", "PartiQLDelete"),
    ):
        assert owners_of(f"dynamodb:{action}", resources["Ledger"], templates) == set(), action
    bucket = logical(templates, "AWS::S3::Bucket", "BucketsLedger")
    for key in ("log", "sequenced/1", "tile/0/000", "tile/entries/000", "opening/000"):
        assert owners_of("s3:PutObject", f"{bucket}/{key}", templates) <= sequencer, key
    assert owners_of("s3:PutObject", f"{bucket}/index/1", templates) == of(templates, "index")
    for key in ("checkpoint", "checkpoints/1", "cosignatures/1/2", "refusals/1/2"):
        assert owners_of("s3:PutObject", f"{bucket}/{key}", templates) == signer, key
    key = logical(templates, "AWS::KMS::Key", "LedgerKey")
    assert owners_of("kms:Sign", key, templates) == signer


def _state(templates: Templates, kind: str, start: str) -> dict[str, Any]:
    (found,) = [
        resource
        for name, resource in templates["AbeyanceState"]["Resources"].items()
        if resource["Type"] == kind and name.startswith(start)
    ]
    return dict(found)


def _role(statement: dict[str, Any], templates: Templates) -> str:
    (role,) = statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]
    return text(role, templates)


def test_only_the_sequencer_moves_the_head(templates: Templates) -> None:
    """The table's own policy, which also binds roles that are not in these templates."""
    table = _state(templates, "AWS::DynamoDB::Table", "TablesLedger")["Properties"]
    moves, writer = table["ResourcePolicy"]["PolicyDocument"]["Statement"]
    assert moves["Effect"] == writer["Effect"] == "Deny"
    assert moves["Principal"] == writer["Principal"] == {"AWS": "*"}
    assert {"dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem"} <= set(moves["Action"])
    assert "Condition" not in moves
    assert writer["Action"] == "dynamodb:PutItem"
    assert _role(writer, templates).endswith(":iam::111122223333:role/abeyance-ledger-eu-central-1")
    assert table["DeletionProtectionEnabled"] is True


def test_the_ledger_is_written_once(templates: Templates) -> None:
    """By the bucket's policy, whoever asks: no second write, copy, part or deletion, and a lock that nobody ends."""
    bucket = _state(templates, "AWS::S3::Bucket", "BucketsLedger")["Properties"]
    lock = bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert lock == {"Mode": "COMPLIANCE", "Days": 365}
    policy = _state(templates, "AWS::S3::BucketPolicy", "BucketsLedger")["Properties"]["PolicyDocument"]
    denied = {found.get("Sid"): found for found in policy["Statement"]}
    once = denied["WrittenOnce"]
    assert once["Effect"] == "Deny"
    assert once["Principal"] == {"AWS": "*"}
    assert once["Action"] == "s3:PutObject"
    assert once["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    assert [text(one, templates).split("/", 1)[1] for one in once["NotResource"]] == ["checkpoint", "index/*"]
    assert denied["NoCopies"]["Condition"] == {"Null": {"s3:x-amz-copy-source": "false"}}
    assert denied["NoParts"]["Condition"] == {"Bool": {"s3:ObjectCreationOperation": "false"}}
    assert {"s3:DeleteObject", "s3:DeleteObjectVersion"} <= set(denied["NobodyDeletes"]["Action"])
    assert "Condition" not in denied["NobodyDeletes"]
    for sid, role, keys in (
        ("OneSequencer", "ledger", ("log", "sequenced/*", "tile/*", "opening/*")),
        ("OneSigner", "checkpoint", ("checkpoint", "checkpoints/*", "cosignatures/*", "refusals/*")),
        ("OneIndexer", "index", ("index/*",)),
    ):
        assert _role(denied[sid], templates).endswith(f":role/abeyance-{role}-eu-central-1")
        found = denied[sid]["Resource"]
        resources = found if isinstance(found, list) else [found]
        named = [text(one, templates).split("/", 1)[1] for one in resources]
        assert tuple(named) == keys


def test_the_signing_key_is_ed25519_and_has_one_user(templates: Templates) -> None:
    key = _state(templates, "AWS::KMS::Key", "LedgerKey")["Properties"]
    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
    (denied,) = [found for found in key["KeyPolicy"]["Statement"] if found["Effect"] == "Deny"]
    assert denied["Action"] == "kms:Sign"
    assert _role(denied, templates).endswith(":role/abeyance-checkpoint-eu-central-1")


def test_only_the_bus_and_our_roles_send_to_the_ledger(templates: Templates) -> None:
    queue = logical(templates, "AWS::SQS::Queue", "LedgerQueue")
    policies = [
        found["Properties"]["PolicyDocument"]["Statement"]
        for found in templates["AbeyanceFlow"]["Resources"].values()
        if found["Type"] == "AWS::SQS::QueuePolicy"
        and text(found["Properties"]["Queues"][0], templates) == queue
    ]
    (strangers,) = [one for found in policies for one in found if one.get("Sid") == "OnlyTheNamedSend"]
    assert strangers["Effect"] == "Deny"
    named = {
        text(one, templates).rpartition("/abeyance-")[2]
        for one in strangers["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]
    }
    assert named == {f"{name}-eu-central-1" for name in DIRECT_TYPES}
    (ledger,) = [
        found["Properties"]["Environment"]["Variables"]
        for found in templates["AbeyanceFlow"]["Resources"].values()
        if found["Type"] == "AWS::Lambda::Function"
        and found["Properties"]["FunctionName"] == "abeyance-ledger"
    ]
    given = text(ledger["ABEYANCE_LEDGER_SENDERS"], templates).split()
    assert {one.partition("=")[2] for one in given} == set(DIRECT_TYPES)
    assert all(".RoleId>" in one for one in given)


def test_only_the_change_service_deploys_configuration(templates: Templates) -> None:
    allowed = {
        found.owner
        for found in statements(templates)
        for action in found.actions
        if found.effect == "Allow"
        and re.match(r"appconfig:(\*|Start(Deployment|\*)|Stop|Create|Update|Delete|Put)", action)
        and action != "appconfig:StartConfigurationSession"
    }
    assert allowed == of(templates, "flags")
    for_people = [
        resource["Properties"]
        for resource in templates["AbeyanceFlow"]["Resources"].values()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
    ]
    assert len(for_people) == 2
    assert not any(one.keys() & {"Roles", "Users", "Groups"} for one in for_people)


@pytest.mark.parametrize("table", ["Tenants", "Proposals"])
def test_only_the_change_service_writes_what_decides_whom_a_halt_reaches(
    templates: Templates, table: str
) -> None:
    named = logical(templates, "AWS::DynamoDB::Table", f"Tables{table}")
    for action in ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"):
        assert owners_of(f"dynamodb:{action}", named, templates) <= of(templates, "flags"), action


@pytest.mark.parametrize(
    ("table", "writers"),
    [
        ("Tenants", ["flags"]),
        ("Proposals", ["flags"]),
        ("Uploads", ["api", "console", "detect", "frames", "gate", "recognize"]),
        ("Jobs", ["api"]),
        ("Gallery", ["api", "console", "recognize"]),
    ],
)
def test_a_table_denies_whoever_is_not_named(templates: Templates, table: str, writers: list[str]) -> None:
    """The table's own policy, which also binds roles and people that are not in these templates."""
    (found,) = [
        resource["Properties"]["ResourcePolicy"]["PolicyDocument"]["Statement"]
        for name, resource in templates["AbeyanceState"]["Resources"].items()
        if resource["Type"] == "AWS::DynamoDB::Table" and name.startswith(f"Tables{table}")
    ]
    (statement,) = [one for one in found if one["Sid"] == "OnlyTheNamed"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", {"AWS": "*"})
    assert {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"} <= set(statement["Action"])
    named = statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]
    arns = [text(one, templates) for one in (named if isinstance(named, list) else [named])]
    assert [arn.split("role/abeyance-")[1].split("-")[0] for arn in arns] == writers


def test_a_queue_denies_whoever_is_not_named(templates: Templates) -> None:
    policies = [
        resource["Properties"]["PolicyDocument"]["Statement"]
        for resource in templates["AbeyanceFlow"]["Resources"].values()
        if resource["Type"] == "AWS::SQS::QueuePolicy"
    ]
    senders = [
        statement for policy in policies for statement in policy if statement.get("Sid") == "OnlyTheNamedSend"
    ]
    assert len(senders) == 7
    for statement in senders:
        assert statement["Effect"] == "Deny"
        assert statement["Condition"]["Bool"] == {"aws:PrincipalIsAWSService": "false"}
        assert statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]


def test_nobody_invokes_the_change_service_past_its_gateway(templates: Templates) -> None:
    """An event made by hand could name anybody as its caller; API Gateway's cannot."""
    flags = logical(templates, "AWS::Lambda::Function", "FlagsFunction")
    officers = logical(templates, "AWS::IAM::ManagedPolicy", "Officers")
    invokers = [found for found in statements(templates) if "lambda:InvokeFunction" in found.actions]
    assert [(found.owner, found.effect, found.resources) for found in invokers] == [
        (officers, "Deny", (flags,))
    ]
    services = {
        resource["Properties"]["Principal"]
        for resource in templates["AbeyanceFlow"]["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Permission"
        and text(resource["Properties"]["FunctionName"], templates) == flags
    }
    assert services == {"appconfig.amazonaws.com", "apigateway.amazonaws.com", "events.amazonaws.com"}
    askers = {found.owner for found in statements(templates) if "execute-api:Invoke" in found.actions}
    assert askers == {officers, *of(templates, "console")}
    (method,) = [
        resource["Properties"]
        for name, resource in templates["AbeyanceFlow"]["Resources"].items()
        if resource["Type"] == "AWS::ApiGateway::Method" and "changes" in name
    ]
    assert method["AuthorizationType"] == "AWS_IAM"


def test_the_console_sends_to_the_ledger_and_reads_it(
    templates: Templates, resources: dict[str, str]
) -> None:
    (console,) = of(templates, "console")
    assert may(console, "dynamodb:GetItem", resources["Ledger"], templates)
    queue = logical(templates, "AWS::SQS::Queue", "LedgerQueue")
    assert owners_of("sqs:SendMessage", queue, templates) >= {console}
    for action in ("s3:PutObject", "s3:DeleteObject"):
        for bucket in ("Ledger", "Uploads"):
            named = logical(templates, "AWS::S3::Bucket", f"Buckets{bucket}")
            assert not may(console, action, f"{named}/x", templates), (action, bucket)
    tenants = logical(templates, "AWS::DynamoDB::Table", "TablesTenants")
    for action in ("PutItem", "UpdateItem", "DeleteItem"):
        assert not may(console, f"dynamodb:{action}", tenants, templates)


def test_readers_of_photos_read_in_buckets_of_tenants_that_are_named_and_the_gate_their_tags(
    synthesise: Synthesise,
) -> None:
    templates = synthesise(tenant_buckets="door-photos/entrance/ gates")
    for named, elsewhere in (
        ("door-photos/entrance/a.jpg", "door-photos/hall/a.jpg"),
        ("gates/a.jpg", "gates-2/a.jpg"),
    ):
        place = "arn:aws:s3:::"
        readers = of(templates, "api", "detect", "frames", "console")
        assert owners_of("s3:GetObject", place + named, templates) == readers
        assert owners_of("s3:GetObjectTagging", place + named, templates) == of(templates, "gate")
        for action in ("GetObject", "GetObjectTagging"):
            assert owners_of(f"s3:{action}", place + elsewhere, templates) == set()
        for action in ("PutObject", "DeleteObject", "PutObjectTagging"):
            assert owners_of(f"s3:{action}", place + named, templates) == set()
    (pattern,) = [
        rule["Properties"]["EventPattern"]
        for rule in templates["AbeyanceFlow"]["Resources"].values()
        if rule["Type"] == "AWS::Events::Rule"
        and rule["Properties"].get("EventPattern", {}).get("source") == ["aws.s3"]
    ]
    assert pattern["detail"]["bucket"]["name"][1:] == ["door-photos", "gates"]


def test_a_browser_asks_without_a_signature_and_calls_with_one(synthesise: Synthesise) -> None:
    def methods(**choices: str) -> set[tuple[str, str]]:
        return {
            (found["Properties"]["HttpMethod"], found["Properties"]["AuthorizationType"])
            for found in synthesise(**choices)["AbeyanceFlow"]["Resources"].values()
            if found["Type"] == "AWS::ApiGateway::Method"
        }

    # Without an authoriser is /keys alone, where the function verifies.
    signed = {("POST", "AWS_IAM"), ("POST", "NONE")}
    assert methods() == signed
    assert methods(cors_origins="https://app.example.org") == signed | {("OPTIONS", "NONE")}


def test_what_the_gateway_refuses_by_itself_has_the_services_names(synthesise: Synthesise) -> None:
    def answers(**choices: str) -> dict[str, dict[str, Any]]:
        return {
            found["Properties"]["ResponseType"]: found["Properties"]
            for found in synthesise(**choices)["AbeyanceFlow"]["Resources"].values()
            if found["Type"] == "AWS::ApiGateway::GatewayResponse"
        }

    for kind, error, status in (
        ("REQUEST_TOO_LARGE", "ImageTooLargeException", "400"),
        ("THROTTLED", "ThrottlingException", "500"),
    ):
        found = answers()[kind]
        body = json.loads(found["ResponseTemplates"]["application/json"])
        assert (body["__type"], found["StatusCode"]) == (error, status)
        assert body["Logref"] == "$context.requestId"
        headers = found["ResponseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/x-amz-json-1.1'"
        assert "gatewayresponse.header.Access-Control-Allow-Origin" not in headers
        named = answers(cors_origins="https://app.example.org")[kind]["ResponseParameters"]
        assert named["gatewayresponse.header.Access-Control-Allow-Origin"] == "'https://app.example.org'"


def test_wildcards_only_where_listed(templates: Templates) -> None:
    for found in statements(templates):
        for action in found.actions:
            assert "*" not in action, found
        for resource in found.resources:
            if resource == "*":
                assert set(found.actions) <= WITHOUT_RESOURCE, found
            elif "*" in resource:
                assert any(re.search(pattern, resource) for pattern in WILDCARDS), found


def test_each_function_has_a_role_of_its_own_and_no_managed_policy(templates: Templates) -> None:
    own = roles(templates)
    assert len(set(own.values())) == len(own)
    for template in templates.values():
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::IAM::Role":
                assert "ManagedPolicyArns" not in resource["Properties"]


def test_keys_are_used_through_one_service_only_or_for_access_keys(templates: Templates) -> None:
    for found in statements(templates):
        if {"kms:Sign", "kms:GetPublicKey"} & set(found.actions):
            continue
        if found.effect == "Allow" and any(action.startswith("kms:") for action in found.actions):
            context = found.conditions.get("ForAllValues:StringEquals", {}).get("kms:EncryptionContextKeys")
            # That of tables, photos and secrets is another context, which these statements do not open.
            assert "kms:ViaService" in found.conditions.get("StringEquals", {}) or context == "access-key", (
                found
            )


def test_buckets_are_private_encrypted_and_tls_only(templates: Templates) -> None:
    state: dict[str, Any] = templates["AbeyanceState"]["Resources"]
    buckets = {name: found for name, found in state.items() if found["Type"] == "AWS::S3::Bucket"}
    assert len(buckets) == 6
    for name, bucket in buckets.items():
        assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}, name
        (policy,) = [
            found["Properties"]["PolicyDocument"]["Statement"]
            for found in state.values()
            if found["Type"] == "AWS::S3::BucketPolicy" and found["Properties"]["Bucket"] == {"Ref": name}
        ]
        assert any(
            statement["Effect"] == "Deny"
            and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            for statement in policy
        ), name
        assert bucket["DeletionPolicy"] == "Retain"


def test_athena_reads_the_files_of_the_lookup_index(templates: Templates) -> None:
    """The table's place, partitions and columns are those of the files; every named query names only columns."""
    flow = templates["AbeyanceFlow"]["Resources"]
    (table,) = [one["Properties"]["TableInput"] for one in flow.values() if one["Type"] == "AWS::Glue::Table"]
    columns = [column["Name"] for column in table["StorageDescriptor"]["Columns"]]
    assert columns == list(IndexRow.__struct_fields__)
    template = text(table["Parameters"]["storage.location.template"], templates)
    key = template.split("/", 3)[3].replace("${day}", "2026-06-10")
    assert rows_key("2026-06-10", 0, 1).startswith(key)
    row = IndexRow(1, "d-1", "2026-06-10T00:00:00.000000Z", "decision", "acme", "search", "deny", ("halt",))
    line = json.loads(msgspec.json.encode(row))
    for column in table["StorageDescriptor"]["Columns"]:
        kind = {"bigint": int, "array<string>": list}.get(column["Type"], str)
        assert isinstance(line[column["Name"]], kind)
    queries = [one["Properties"] for one in flow.values() if one["Type"] == "AWS::Athena::NamedQuery"]
    assert len(queries) == len(QUERIES)
    for query in queries:
        assert " day " in query["QueryString"]  # otherwise Athena looks for a file of every day since 2020
