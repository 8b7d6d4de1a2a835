"""The choices of an operator, from CDK context (``-c name=value``, or the ``context`` of cdk.json)."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from abeyance.moratorium.buckets import PLACE_FORM, is_place
from abeyance.rekognition.cors import parse_origins

#: The least ``MaximumConcurrency`` of a queue's event source mapping.
MIN_RESERVED = 2
ROOT = Path(__file__).resolve().parent.parent


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The choices of one deployment. Context values are text; they are converted to the field's type."""

    #: Prefix of stacks, and of the few physical names that there are.
    name: str = "abeyance"
    #: ``local``: the function itself makes the templates, without a GPU. ``sagemaker`` or ``ecs``: a GPU makes them.
    embedder: Literal["local", "sagemaker", "ecs"] = "local"
    #: Image of the embedder in ECR; empty: build it from ``functions/embedder`` on this machine, with Docker.
    embedder_image: str = ""
    #: GPU instance type, and the most instances at a time.
    gpu_instance: str = "g5.xlarge"
    max_gpus: int = 2
    region: str = ""
    account: str = ""
    detector_model: str = "yunet-2023mar"
    embedder_model: str = "sface-2021dec"
    #: Days to keep the records of uploads, chips and results.
    retention_days: int = 30
    #: Days to keep the photos themselves; 0: until somebody deletes them.
    photo_days: int = 0
    #: Days for which the bus can be replayed, for which tables can be restored (1 to 35), and days to keep logs. What
    #: was erased outlives its erasure in backups and archive for as long.
    archive_days: int = 30
    recovery_days: int = 35
    log_days: int = 90
    #: File on this machine with the policy of the ledger's witnesses (C2SP tlog-policy); empty: none is asked.
    witness_policy: str = ""
    #: Days for which nobody can delete an object of the ledger.
    ledger_lock_days: int = 365
    #: Give the gallery DynamoDB's own vector index, for collections too large for memory; and the number of templates
    #: up to which a collection is searched in memory nevertheless.
    vector_index: bool = False
    exact_up_to: int = 1_000_000
    #: Requests a second that each tenant may send to the Rekognition API, on average over ten seconds; 0: no limit.
    tenant_rate: float = 20.0
    #: Places in S3 outside this stack that the API may read for tenants who have registered them, separated by blanks:
    #: ``BUCKET`` or ``BUCKET/PREFIX``. Their owners set the policy that ``abeyance tenants bucket-policy`` prints.
    tenant_buckets: str = ""
    #: ARNs of the SNS topics that may be told of the end of a job on stored video, with ``*`` and ``{tenant}`` for the
    #: tenant's id, separated by blanks. Their policies allow the function notify to publish.
    notification_topics: str = ""
    #: Origins of web pages that may call the Rekognition API, such as ``https://app.example.org``, separated by blanks.
    cors_origins: str = ""
    #: Executions kept free for the gate, whatever other functions do; ledger and flags get a few beside it. 0: none, as
    #: a new account has only ten executions in all, and 100 must stay unreserved. docs/operations.md, "Fairness".
    reserved_concurrency: int = 0
    #: Deploy the console. By default, people of a Cognito user pool of its own sign in. Another OpenID Connect provider
    #: is given by its issuer and its client id for the console; the client's secret (ARN in Secrets Manager, encrypted
    #: with AWS's key) stays empty for a public client.
    console: bool = True
    console_issuer: str = ""
    console_client_id: str = ""
    console_client_secret: str = ""
    #: Who may agree to changes of a new deployment: ``alice=<principal> <principal>, bob=<principal>``. A principal is
    #: an IAM user's ARN, that of a session of one of ``person_roles``, or ``<subject>@<issuer host>``. Two people at
    #: least; these link later ones. Without effect once a deployment has its first people.
    people: str = ""
    #: Names of roles, with ``*``, whose sessions are named after people: a trust policy pins ``sts:RoleSessionName``,
    #: or Identity Center made the role (``AWSReservedSSO_*``). Separated by blanks.
    person_roles: str = ""
    #: ARNs of roles and users who may work past the functions: redrive a queue, erase by command. Separated by blanks.
    operators: str = ""
    #: Host the public page and its certificates: a private bucket behind CloudFront, and a key that signs certificates.
    #: ``operators`` write and sign; without any, whoever the account's own policies allow.
    public_page: bool = False
    #: Report of ``abeyance audit`` on this machine, for the console to show; empty: none.
    accuracy_report: str = ""
    #: Address that alarms are sent to; empty: none, subscribe to the topic instead.
    alarm_email: str = ""
    #: ``retain`` keeps buckets, tables and keys when the stack goes; ``destroy`` is for trying things out.
    removal: Literal["retain", "destroy"] = "retain"
    architecture: Literal["arm64", "x86_64"] = "arm64"
    #: Leave out what an emulator does not have; see docs/deploy.md, "On an emulator".
    emulator: bool = False
    #: Folder of the converted models on this machine, for ``emulator``.
    models_directory: str = ""

    def __post_init__(self) -> None:
        if self.emulator and not self.models_directory:
            raise ValueError("emulator=true needs models_directory=<folder of converted models>")
        if self.emulator and self.public_page:
            raise ValueError("public_page=true needs CloudFront, which no emulator here has")
        if not 1 <= self.recovery_days <= 35:
            raise ValueError("recovery_days is 1 to 35")
        if bool(self.console_issuer) != bool(self.console_client_id):
            raise ValueError("console_issuer and console_client_id are given together")
        if self.console_client_secret and not self.console_issuer:
            raise ValueError("console_client_secret is for a console_issuer; Cognito makes its own")
        if self.reserved_concurrency and self.reserved_concurrency < MIN_RESERVED:
            raise ValueError(
                f"reserved_concurrency is 0 or at least {MIN_RESERVED}, the least for a queue's function"
            )
        if len(set(self.first_principals.values())) == 1:
            raise ValueError("people names two people at least: nothing is loosened by one")
        if not all(is_place(place) for place in self.tenant_buckets.split()):
            raise ValueError(f"tenant_buckets: {PLACE_FORM}")
        parse_origins(self.cors_origins)
        if self.witness_policy and not Path(self.witness_policy).is_file():
            raise ValueError(f"witness_policy: there is no file {self.witness_policy}")
        if self.accuracy_report and not Path(self.accuracy_report).is_file():
            raise ValueError(f"accuracy_report: there is no file {self.accuracy_report}")

    @classmethod
    def from_context(cls, get: Callable[[str], Any]) -> Config:
        """Return the choices in a context, ``get`` being ``app.node.try_get_context``.

        Raises
        ------
        msgspec.ValidationError
            If a value does not have its field's type; the message names the field.
        """
        given = {name: value for name in cls.__struct_fields__ if (value := get(name)) not in (None, "")}
        return msgspec.convert(given, cls, strict=False)

    @property
    def first_principals(self) -> dict[str, str]:
        """Person by principal, from ``people``; raises ``ValueError`` if one of them is written otherwise."""
        found: dict[str, str] = {}
        for entry in filter(None, (one.strip() for one in self.people.split(","))):
            person, equals, principals = entry.partition("=")
            if not equals or not principals.split():
                raise ValueError("people is written alice=<principal> <principal>, bob=<principal>")
            found |= dict.fromkeys(principals.split(), person.strip())
        return found

    @property
    def index_name(self) -> str:
        """Name of the vector index; empty for none. An index cannot be changed, so it is named after its model."""
        return f"templates-{self.embedder_model}" if self.vector_index else ""

    @property
    def lambda_architecture(self) -> str:
        """The architecture of the functions: on an emulator the machine's own, because it has no other."""
        if not self.emulator:
            return self.architecture
        return "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
