"""The settings of every deployed unit, a small class each, and the groups that they share.

A field is read from the environment variable ``ABEYANCE_<FIELD>``. The defaults are the names that ``abeyance serve``
creates, so that a command with ``AWS_ENDPOINT_URL`` set needs nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

import msgspec

_PREFIX = "ABEYANCE_"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that belong together and that several units need."""


class DecisionGroup(Group, frozen=True, kw_only=True):
    """The basis of a decision: flags and tenants."""

    #: Where moratorium flags come from: ``file:<path>`` or ``appconfig:<application>/<environment>/<profile>``.
    flags: str = "file:flags.json"
    #: Seconds after which flags that could not be confirmed again are no basis for a decision.
    flags_max_age: float = 300.0
    #: Seconds between two questions to AppConfig.
    flags_poll_interval: float = 15.0
    tenants_table: str = "abeyance-tenants"


class OutcomeGroup(Group, frozen=True, kw_only=True):
    """The records, the bus and the results of a stage."""

    uploads_table: str = "abeyance-uploads"
    results_bucket: str = "results"
    event_bus: str = "abeyance"
    #: Days that records, chips, results and reviews are kept.
    retention_days: int = 30


class DetectionGroup(Group, frozen=True, kw_only=True):
    """The models that find and describe faces."""

    #: Folder with the manifest's converted models; empty for the user's cache.
    models: str = ""
    #: Whether a model is compared with its checksum when it is opened. A layer cannot change, so not there.
    verify_models: bool = True
    #: Name in the model manifest.
    detector_model: str = "yunet-2023mar"


class EmbeddingGroup(Group, frozen=True, kw_only=True):
    """The model that makes templates."""

    #: ``local`` (in the function), ``http:<url>`` (ECS) or ``sagemaker:<endpoint>[/<inference component>]``.
    embedder: str = "local"
    #: Name in the model manifest.
    embedder_model: str = "sface-2021dec"


class GalleryGroup(Group, frozen=True, kw_only=True):
    """The store of templates, and the ways to search it."""

    gallery_table: str = "abeyance-gallery"
    gallery_bucket: str = "abeyance-gallery"
    #: DynamoDB's vector index over the templates; empty if every collection is searched in memory.
    vector_index: str = ""
    #: Templates up to which a collection is searched in memory, exactly, also where there is an index.
    exact_up_to: int = 1_000_000


class SearchGroup(Group, frozen=True, kw_only=True):
    """The defaults of a search, where neither the caller nor a flag asks for less."""

    #: Lowest similarity of a candidate, 0–100.
    search_threshold: float = 80.0
    #: Most candidates of one search.
    max_candidates: int = 10


class RecordingGroup(Group, frozen=True, kw_only=True):
    """The way onto the ledger for decisions that are not events."""

    ledger_queue: str = "abeyance-ledger.fifo"


class PseudonymGroup(Group, frozen=True, kw_only=True):
    """The secret that hides the keys of objects in the ledger."""

    #: ``text:<secret>``, or ``secret:<ARN in Secrets Manager>``.
    pseudonym_key: str = "text:for-one-machine-only"


class LedgerGroup(Group, frozen=True, kw_only=True):
    """The stores of the ledger."""

    ledger_table: str = "abeyance-ledger"
    ledger_bucket: str = "abeyance-ledger"


class ChipsGroup(Group, frozen=True, kw_only=True):
    """The bucket of aligned faces between detection and recognition."""

    chips_bucket: str = "abeyance-chips"


class UploadsGroup(Group, frozen=True, kw_only=True):
    """The bucket that people upload photos to."""

    uploads_bucket: str = "uploads"


class ReviewsGroup(Group, frozen=True, kw_only=True):
    """The table of matches that wait for people."""

    reviews_table: str = "abeyance-reviews"


class ErasuresGroup(Group, frozen=True, kw_only=True):
    """The table of erasures, and the days that a receipt names for what outlives them."""

    erasures_table: str = "abeyance-erasures"
    #: Days for which the bus can be replayed, tables can be restored, and access logs are kept.
    archive_days: int = 30
    recovery_days: int = 35
    log_days: int = 90


class ProposalsGroup(Group, frozen=True, kw_only=True):
    """The table of changes of moratoria that wait for a second person."""

    proposals_table: str = "abeyance-proposals"


class WaitingGroup(Group, frozen=True, kw_only=True):
    """The recognize stage's own queue, where messages wait for an embedder that is away."""

    recognize_queue: str = "abeyance-recognize"


class RateGroup(Group, frozen=True, kw_only=True):
    """The limit on each tenant's requests to the Rekognition API."""

    #: Requests a second of each tenant, on average over ten seconds; 0 for no limit.
    tenant_rate: float = 0.0
    #: The table of the counters: that of the uploads.
    rates_table: str = "abeyance-uploads"


class IntakeGroup(Group, frozen=True, kw_only=True):
    """The gate's own queue, where messages go back under their tenant's group while there is a backlog."""

    gate_queue: str = "abeyance-gate"


class AnnouncementGroup(Group, frozen=True, kw_only=True):
    """EventBridge Scheduler's announcements of moratoria that start and end."""

    #: Schedule group; empty on one machine.
    announcement_group: str = ""
    #: ARN of the role by which the schedules reach the bus.
    announcement_role: str = ""


class SignInGroup(Group, frozen=True, kw_only=True):
    """Sign-in to the console, and what the console hands on."""

    #: ``nobody``, ``loopback`` (a choice of roles on this machine), or ``oidc:<issuer> <client id> <console URL>``.
    console_identity: str = "nobody"
    #: The key that signs sessions: ``text:<secret>`` or ``secret:<ARN>``; empty, and each process makes its own.
    console_key: str = ""
    #: The provider's secret for this console: ``text:``, ``secret:<ARN>``, or ``cognito:<pool>/<client id>``.
    console_client_secret: str = ""
    #: Name of the function that deploys flags for the console; empty, and the console writes them itself.
    flag_pipeline: str = ""
    #: Path of the accuracy report to show; empty for none.
    accuracy_report: str = ""


class UnitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a unit: groups, whose fields have names of their own across all groups."""

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return settings with some fields as given, by their name alone, and the rest by default.

        Raises ``TypeError`` on a name that no group has, and ``msgspec.ValidationError`` on an ill-typed value.
        """
        groups = {}
        for name, group in cls._groups():
            own = {field: values.pop(field) for field in group.__struct_fields__ if field in values}
            groups[name] = msgspec.convert(own, group, strict=False)
        if values:
            raise TypeError(f"{cls.__name__} has no {', '.join(sorted(values))}")
        return cls(**groups)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Return settings from ``ABEYANCE_*`` variables; raises ``msgspec.ValidationError`` on an ill-typed one."""
        environment = os.environ if environment is None else environment
        return cls.of(
            **{
                field: environment[variable]
                for variable, field in cls.variables().items()
                if variable in environment
            }
        )

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Return the environment variables that are read, and the field of each."""
        fields = (field for _, group in cls._groups() for field in group.__struct_fields__)
        return {f"{_PREFIX}{field.upper()}": field for field in fields}

    def values(self) -> dict[str, Any]:
        """Return every field by its name."""
        return {
            field: getattr(group, field)
            for group in (getattr(self, name) for name in self.__struct_fields__)
            for field in group.__struct_fields__
        }

    def replace(self, **values: Any) -> Self:
        """Return a copy with some fields changed, by their name alone."""
        return self.of(**{**self.values(), **values})

    def to_environment(self) -> dict[str, str]:
        """Return the variables that :meth:`from_environment` reads."""
        return {f"{_PREFIX}{field.upper()}": str(value) for field, value in self.values().items()}

    @classmethod
    def _groups(cls) -> Iterator[tuple[str, type[Group]]]:
        default = cls()
        for name in cls.__struct_fields__:
            yield name, type(getattr(default, name))


class GateSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the gate: nothing about pixels."""

    decisions: DecisionGroup = DecisionGroup()
    outcomes: OutcomeGroup = OutcomeGroup()
    intake: IntakeGroup = IntakeGroup()


class DetectSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the detection stage."""

    decisions: DecisionGroup = DecisionGroup()
    outcomes: OutcomeGroup = OutcomeGroup()
    chips: ChipsGroup = ChipsGroup()
    detection: DetectionGroup = DetectionGroup()


class RecognizeSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the recognition stage."""

    decisions: DecisionGroup = DecisionGroup()
    outcomes: OutcomeGroup = OutcomeGroup()
    chips: ChipsGroup = ChipsGroup()
    detection: DetectionGroup = DetectionGroup()
    embedding: EmbeddingGroup = EmbeddingGroup()
    gallery: GalleryGroup = GalleryGroup()
    search: SearchGroup = SearchGroup()
    waiting: WaitingGroup = WaitingGroup()


class ReviewSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the review stage."""

    reviews: ReviewsGroup = ReviewsGroup()
    outcomes: OutcomeGroup = OutcomeGroup()


class LedgerSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the ledger stage."""

    ledger: LedgerGroup = LedgerGroup()
    pseudonyms: PseudonymGroup = PseudonymGroup()


class ApiSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the Rekognition API."""

    decisions: DecisionGroup = DecisionGroup()
    uploads: UploadsGroup = UploadsGroup()
    detection: DetectionGroup = DetectionGroup()
    embedding: EmbeddingGroup = EmbeddingGroup()
    gallery: GalleryGroup = GalleryGroup()
    recording: RecordingGroup = RecordingGroup()
    pseudonyms: PseudonymGroup = PseudonymGroup()
    rates: RateGroup = RateGroup()


class FlagsSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the function that validates and deploys flags and announces moratoria."""

    decisions: DecisionGroup = DecisionGroup()
    proposals: ProposalsGroup = ProposalsGroup()
    outcomes: OutcomeGroup = OutcomeGroup()
    announcements: AnnouncementGroup = AnnouncementGroup()


class ConsoleSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of the console."""

    decisions: DecisionGroup = DecisionGroup()
    outcomes: OutcomeGroup = OutcomeGroup()
    chips: ChipsGroup = ChipsGroup()
    reviews: ReviewsGroup = ReviewsGroup()
    erasures: ErasuresGroup = ErasuresGroup()
    proposals: ProposalsGroup = ProposalsGroup()
    detection: DetectionGroup = DetectionGroup()
    embedding: EmbeddingGroup = EmbeddingGroup()
    gallery: GalleryGroup = GalleryGroup()
    ledger: LedgerGroup = LedgerGroup()
    recording: RecordingGroup = RecordingGroup()
    pseudonyms: PseudonymGroup = PseudonymGroup()
    sign_in: SignInGroup = SignInGroup()


class DeploymentSettings(UnitSettings, frozen=True, kw_only=True):
    """The settings of a whole deployment: for the local runtime, an operator's commands, and the CDK app.

    A field is also an attribute by its name alone: ``settings.tenants_table``.
    """

    decisions: DecisionGroup = DecisionGroup()
    outcomes: OutcomeGroup = OutcomeGroup()
    uploads: UploadsGroup = UploadsGroup()
    chips: ChipsGroup = ChipsGroup()
    reviews: ReviewsGroup = ReviewsGroup()
    erasures: ErasuresGroup = ErasuresGroup()
    proposals: ProposalsGroup = ProposalsGroup()
    detection: DetectionGroup = DetectionGroup()
    embedding: EmbeddingGroup = EmbeddingGroup()
    gallery: GalleryGroup = GalleryGroup()
    search: SearchGroup = SearchGroup()
    ledger: LedgerGroup = LedgerGroup()
    recording: RecordingGroup = RecordingGroup()
    pseudonyms: PseudonymGroup = PseudonymGroup()
    rates: RateGroup = RateGroup()
    waiting: WaitingGroup = WaitingGroup()
    intake: IntakeGroup = IntakeGroup()

    def environment_of(self, unit: type[UnitSettings]) -> dict[str, str]:
        """Return the variables of this deployment that one unit reads."""
        read = unit.variables()
        return {name: value for name, value in self.to_environment().items() if name in read}

    def __getattr__(self, field: str) -> Any:
        for name in self.__struct_fields__:
            group = getattr(self, name)
            if field in group.__struct_fields__:
                return getattr(group, field)
        raise AttributeError(f"no setting is called {field}")


#: The settings class of each deployed function, by the function's name.
UNITS: dict[str, type[UnitSettings]] = {
    "gate": GateSettings,
    "detect": DetectSettings,
    "recognize": RecognizeSettings,
    "review": ReviewSettings,
    "ledger": LedgerSettings,
    "api": ApiSettings,
    "flags": FlagsSettings,
    "console": ConsoleSettings,
}
