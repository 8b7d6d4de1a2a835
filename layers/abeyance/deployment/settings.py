"""The settings of every deployed unit, a small class each, composed of the groups that it needs.

A field has a name of its own across all groups, and is read from the environment variable ``ABEYANCE_<FIELD>``. The
defaults are the names that ``abeyance serve`` creates, so that a command with ``AWS_ENDPOINT_URL`` set needs nothing
else.
"""

import os
from collections.abc import Mapping
from typing import Any, Self, dataclass_transform

import msgspec

_PREFIX = "ABEYANCE_"


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Group:
    """Settings that belong together and that several units need.

    A default is an attribute of the class, and only what differs is one of the object. As thirty dataclasses, the
    settings would take several times as long to import, at every cold start.
    """


class RegistryGroup(Group):
    """The registry of tenants."""

    tenants_table: str = "abeyance-tenants"


class UsesGroup(Group):
    """The use of authorisations."""

    authorizations_table: str = "abeyance-authorizations"


class DecisionGroup(RegistryGroup, UsesGroup):
    """The basis of a decision: flags and tenants."""

    #: Where moratorium flags come from: ``file:<path>`` or ``appconfig:<application>/<environment>/<profile>``.
    flags: str = "file:flags.json"
    #: Seconds after which flags that could not be confirmed again are no basis for a decision.
    flags_max_age: float = 300.0
    #: Seconds between two questions to AppConfig.
    flags_poll_interval: float = 15.0
    #: Where the brake comes from, as ``flags``; empty for a file beside those of a file, and for none of AppConfig.
    brake: str = ""
    #: Identity of the embedding model that is deployed, for flags that are bound to its audit; empty if unknown.
    deployed_model: str = ""
    #: The change service's own table: what is in force, proposals, who is whom, and authorisations.
    proposals_table: str = "abeyance-proposals"


class OutcomeGroup(RegistryGroup):
    """The records, the bus and the results of a stage."""

    uploads_table: str = "abeyance-uploads"
    results_bucket: str = "results"
    event_bus: str = "abeyance"
    #: Days that records, chips, results and reviews are kept.
    retention_days: int = 30


class DetectionGroup(Group):
    """The models that find and describe faces."""

    #: Folder with the manifest's converted models; empty for the user's cache.
    models: str = ""
    #: Whether a model is compared with its checksum when it is opened. A layer cannot change, so not there.
    verify_models: bool = True
    #: Name in the model manifest.
    detector_model: str = "yunet-2023mar"


class EmbeddingGroup(DetectionGroup):
    """The model that makes templates, beside those that find the faces."""

    #: ``local`` (in the function), ``http:<url>`` (ECS) or ``sagemaker:<endpoint>[/<inference component>]``.
    embedder: str = "local"
    #: Name in the model manifest.
    embedder_model: str = "sface-2021dec"
    #: Another model whose collections are answered too, and where it runs, as ``embedder``; empty for none. Earlier
    #: forms of the deployed model need no setting.
    former_embedder: str = ""
    former_embedder_model: str = ""


class GalleryGroup(Group):
    """The store of templates, and the ways to search it."""

    gallery_table: str = "abeyance-gallery"
    gallery_bucket: str = "abeyance-gallery"
    #: DynamoDB's vector index over the templates; empty if every collection is searched in memory.
    vector_index: str = ""
    #: Templates up to which a collection is searched in memory, exactly, also where there is an index.
    exact_up_to: int = 1_000_000


class SearchGroup(Group):
    """The defaults of a search, where neither the caller nor a flag asks for less."""

    #: Lowest similarity of a candidate, 0–100.
    search_threshold: float = 80.0
    #: Most candidates of one search.
    max_candidates: int = 10


class RecordingGroup(Group):
    """The way onto the ledger for decisions that are not events."""

    ledger_queue: str = "abeyance-ledger"


class PseudonymGroup(Group):
    """The secret that hides the keys of objects in the ledger."""

    #: ``text:<secret>``, or ``secret:<ARN in Secrets Manager>``.
    pseudonym_key: str = "text:for-one-machine-only"


class LedgerGroup(Group):
    """The stores of the ledger: its head, and everything else."""

    ledger_table: str = "abeyance-ledger"
    ledger_bucket: str = "abeyance-ledger"
    #: Objects of the ledger that are read or written at the same time.
    ledger_parallel: int = 16


class SendersGroup(Group):
    """The roles that may send records to the ledger's queue past the bus."""

    #: ``<unique id>=<role>`` of each, separated by blanks; empty on one machine, where nobody attests a sender.
    ledger_senders: str = ""


class SigningGroup(Group):
    """The key that signs the ledger's checkpoints, and the witnesses that sign them too."""

    #: ``kms:<ARN of an Ed25519 key>``; for one machine and emulators ``text:<secret>`` or ``secret:<ARN>``.
    ledger_key: str = "text:for-one-machine-only"
    #: Text of the policy of witnesses (C2SP tlog-policy); those with an address are asked. Empty for none.
    ledger_policy: str = ""


class CertificateGroup(Group):
    """The key that signs certificates; see :mod:`abeyance.assurance.certificate`."""

    #: As ``ledger_key``, and another key: who may use that of the ledger can sign another history. With a ledger key of
    #: one machine, empty is a key that is made of the same secret.
    certificate_key: str = ""


class ChipsGroup(Group):
    """The bucket of aligned faces between detection and recognition."""

    chips_bucket: str = "abeyance-chips"


class UploadsGroup(Group):
    """The bucket that people upload photos to."""

    uploads_bucket: str = "uploads"


class ReviewsGroup(Group):
    """The table of matches that wait for people."""

    reviews_table: str = "abeyance-reviews"


class ErasuresGroup(Group):
    """The table of erasures, and the days that a receipt names for what outlives them."""

    erasures_table: str = "abeyance-erasures"
    #: Days for which the bus can be replayed, tables can be restored, and access logs are kept.
    archive_days: int = 30
    recovery_days: int = 35
    log_days: int = 90


class ChangesGroup(Group):
    """The change service as its callers see it."""

    #: Its URL; empty for the one at ``AWS_ENDPOINT_URL``.
    changes_url: str = ""


class SignInToChangesGroup(Group):
    """The callers that the change service knows."""

    #: ``iam``, ``oidc:<issuer> <client id>`` (and IAM), or ``made-up:<key>`` on one machine.
    sign_in: str = "iam"
    #: Names of roles, with ``*``, whose sessions are named after people: by ``sts:RoleSessionName`` in the trust
    #: policy, or by Identity Center. Separated by blanks.
    person_roles: str = ""
    #: JSON object, principal to person: who is whom in a deployment that has no links yet.
    first_principals: str = "{}"


class WaitingGroup(Group):
    """The recognize stage's own queue, where messages wait for an embedder that is away."""

    recognize_queue: str = "abeyance-recognize"


class JobsGroup(Group):
    """The jobs of the Rekognition API on stored video, and the queue that starts them."""

    jobs_table: str = "abeyance-jobs"
    #: The frames stage's own queue.
    frames_queue: str = "abeyance-frames"


class TopicsGroup(Group):
    """The SNS topics that may be told of the end of a job."""

    #: ARNs, with ``*``, separated by blanks; empty for none.
    notification_topics: str = ""


class RateGroup(Group):
    """The limit on each tenant's requests to the Rekognition API."""

    #: Requests a second of each tenant, on average over ten seconds; 0 for no limit.
    tenant_rate: float = 0.0
    #: The table of the counters: that of the uploads.
    rates_table: str = "abeyance-uploads"


class AccessKeysGroup(Group):
    """The keys with which SDKs sign as a tenant, without IAM."""

    #: Key in KMS that seals their secrets.
    access_keys_key: str = "alias/abeyance-access-keys"


class CorsGroup(Group):
    """The web pages that may call the Rekognition API."""

    #: Origins, such as ``https://app.example.org``, separated by blanks.
    cors_origins: str = ""


class IntakeGroup(Group):
    """The gate's own queue, where messages go back under their tenant's group while there is a backlog."""

    gate_queue: str = "abeyance-gate"


class TenantBucketsGroup(Group):
    """The buckets whose events come to the gate beside those of the uploads bucket."""

    #: Places, ``BUCKET`` or ``BUCKET/PREFIX``, separated by blanks; ``*`` for every bucket on one machine.
    tenant_buckets: str = "*"


class AnnouncementGroup(Group):
    """EventBridge Scheduler's announcements of moratoria that start and end."""

    #: Schedule group; empty on one machine.
    announcement_group: str = ""
    #: ARN of the role by which the schedules reach the bus.
    announcement_role: str = ""


class ConsoleSignInGroup(Group):
    """Sign-in to the console, and what the console hands on."""

    #: ``nobody``, ``loopback`` (a choice of roles on this machine), or ``oidc:<issuer> <client id> <console URL>``.
    console_identity: str = "nobody"
    #: The key that signs sessions: ``text:<secret>`` or ``secret:<ARN>``; empty, and each process makes its own.
    console_key: str = ""
    #: The provider's secret for this console: ``text:``, ``secret:<ARN>``, or ``cognito:<pool>/<client id>``.
    console_client_secret: str = ""
    #: Path of the accuracy report to show; empty for none.
    accuracy_report: str = ""


class UnitSettings(Group):
    """Settings of a unit."""

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return settings with some fields as given, and the rest by default.

        Raises ``TypeError`` on a name that no group has, and ``msgspec.ValidationError`` on an ill-typed value.
        """
        kinds = cls._kinds()
        if unknown := values.keys() - kinds:
            raise TypeError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
        made = cls()
        for field, value in values.items():
            try:
                vars(made)[field] = msgspec.convert(value, kinds[field], strict=False)
            except msgspec.ValidationError as error:
                raise msgspec.ValidationError(f"{error} - at `$.{field}`") from None
        return made

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Return settings from ``ABEYANCE_*`` variables; raises ``msgspec.ValidationError`` on an ill-typed one."""
        given = os.environ if environment is None else environment
        return cls.of(
            **{field: given[variable] for variable, field in cls.variables().items() if variable in given}
        )

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Return the environment variables that are read, and the field of each."""
        return {f"{_PREFIX}{field.upper()}": field for field in cls._kinds()}

    def values(self) -> dict[str, Any]:
        """Return every field by its name."""
        return {field: getattr(self, field) for field in self._kinds()}

    def replace(self, **values: Any) -> Self:
        """Return a copy with some fields changed."""
        return self.of(**{**self.values(), **values})

    def to_environment(self) -> dict[str, str]:
        """Return the variables that :meth:`from_environment` reads."""
        return {f"{_PREFIX}{field.upper()}": str(value) for field, value in self.values().items()}

    @classmethod
    def _kinds(cls) -> dict[str, Any]:
        """Return the type of each field."""
        return {
            field: kind
            for base in cls.__mro__
            for field, kind in getattr(base, "__annotations__", {}).items()
        }


class GateSettings(DecisionGroup, OutcomeGroup, IntakeGroup, UploadsGroup, UnitSettings):
    """The settings of the gate: nothing about pixels."""


class DetectSettings(DecisionGroup, OutcomeGroup, ChipsGroup, DetectionGroup, UnitSettings):
    """The settings of the detection stage."""


class RecognizeSettings(
    DecisionGroup,
    OutcomeGroup,
    GalleryGroup,
    ChipsGroup,
    EmbeddingGroup,
    SearchGroup,
    WaitingGroup,
    UnitSettings,
):
    """The settings of the recognition stage."""


class FramesSettings(DecisionGroup, OutcomeGroup, ChipsGroup, EmbeddingGroup, JobsGroup, UnitSettings):
    """The settings of the stage that decodes videos."""


class NotifySettings(OutcomeGroup, JobsGroup, TopicsGroup, UnitSettings):
    """The settings of the stage that tells callers that their jobs ended."""


class ReviewSettings(OutcomeGroup, ReviewsGroup, UnitSettings):
    """The settings of the review stage."""


class LedgerSettings(LedgerGroup, PseudonymGroup, SendersGroup, UnitSettings):
    """The settings of the ledger stage, which sequences and integrates."""


class CheckpointSettings(LedgerGroup, SigningGroup, UnitSettings):
    """The settings of the function that signs checkpoints."""


class IndexSettings(LedgerGroup, UnitSettings):
    """The settings of the function that writes the lookup index."""


class TracedGroup(DecisionGroup, GalleryGroup, RecordingGroup, PseudonymGroup):
    """The needs of a unit that works on collections for people, and puts that on the ledger."""


class ApiSettings(
    TracedGroup,
    OutcomeGroup,
    ChipsGroup,
    UploadsGroup,
    EmbeddingGroup,
    RateGroup,
    CorsGroup,
    AccessKeysGroup,
    JobsGroup,
    TopicsGroup,
    UnitSettings,
):
    """The settings of the Rekognition API."""


class FlagsSettings(
    DecisionGroup,
    SignInToChangesGroup,
    RecordingGroup,
    LedgerGroup,
    OutcomeGroup,
    AnnouncementGroup,
    AccessKeysGroup,
    UnitSettings,
):
    """The settings of the change service."""


class OversightSettings(
    TracedGroup,
    OutcomeGroup,
    ChipsGroup,
    ReviewsGroup,
    ErasuresGroup,
    ChangesGroup,
    LedgerGroup,
    SigningGroup,
    UnitSettings,
):
    """The settings of what people do at the console or by command: reviews, erasures, proposals, the ledger."""


class ReconcileSettings(OutcomeGroup, ReviewsGroup, UsesGroup, LedgerGroup, UnitSettings):
    """The settings of the comparison of what happened with the ledger."""


class ConsoleSettings(OversightSettings, EmbeddingGroup, ConsoleSignInGroup):
    """The settings of the console."""


class DeploymentSettings(
    OversightSettings,
    ApiSettings,
    RecognizeSettings,
    GateSettings,
    SendersGroup,
    TenantBucketsGroup,
    CertificateGroup,
):
    """The settings of a whole deployment: for the local runtime, an operator's commands, and the CDK app."""

    def environment_of(self, unit: type[UnitSettings]) -> dict[str, str]:
        """Return the variables of this deployment that one unit reads."""
        read = unit.variables()
        return {name: value for name, value in self.to_environment().items() if name in read}


#: The settings class of each deployed function, by the function's name.
UNITS: dict[str, type[UnitSettings]] = {
    "gate": GateSettings,
    "detect": DetectSettings,
    "recognize": RecognizeSettings,
    "frames": FramesSettings,
    "review": ReviewSettings,
    "notify": NotifySettings,
    "ledger": LedgerSettings,
    "checkpoint": CheckpointSettings,
    "index": IndexSettings,
    "reconcile": ReconcileSettings,
    "api": ApiSettings,
    "flags": FlagsSettings,
    "console": ConsoleSettings,
}
