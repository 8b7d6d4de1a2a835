"""Every setting of the deployed system, in one place: the names of its resources and its few choices."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a function, the local runtime and the CLI are told about the world.

    Each field is read from the environment variable ``ABEYANCE_<FIELD>``; the defaults are the names that
    ``abeyance serve`` creates, so a CLI with ``AWS_ENDPOINT_URL`` set needs nothing else.
    """

    uploads_bucket: str = "uploads"
    results_bucket: str = "results"
    chips_bucket: str = "abeyance-chips"
    gallery_bucket: str = "abeyance-gallery"
    ledger_bucket: str = "abeyance-ledger"
    tenants_table: str = "abeyance-tenants"
    uploads_table: str = "abeyance-uploads"
    gallery_table: str = "abeyance-gallery"
    ledger_table: str = "abeyance-ledger"
    proposals_table: str = "abeyance-proposals"
    reviews_table: str = "abeyance-reviews"
    event_bus: str = "abeyance"
    ledger_queue: str = "abeyance-ledger.fifo"
    #: The recognize stage's own queue, where it lets messages wait for an embedder that is away.
    recognize_queue: str = "abeyance-recognize"
    #: What hides the keys of objects in the ledger: ``text:<secret>``, or ``secret:<ARN in Secrets Manager>``.
    pseudonym_key: str = "text:for-one-machine-only"
    #: Where moratorium flags come from: ``file:<path>`` or ``appconfig:<application>/<environment>/<profile>``.
    flags: str = "file:flags.json"
    #: Flags older than this many seconds are no basis for a decision.
    flags_max_age: float = 300.0
    #: Flags are asked for again after this many seconds.
    flags_poll_interval: float = 15.0
    #: Who signs in to the console: nobody, ``loopback`` (a choice of roles on this machine), or
    #: ``oidc:<issuer> <client id> <address of the console>``.
    console_identity: str = "nobody"
    #: What signs the console's sessions: ``text:<secret>`` or ``secret:<ARN>``; empty, and each process makes its own.
    console_key: str = ""
    #: EventBridge Scheduler's group of announcements of moratoria that start and end; empty on one machine.
    announcement_group: str = ""
    #: ARN of the role by which those schedules reach the bus.
    announcement_role: str = ""
    #: ``local`` (in the function), ``http:<url>`` (ECS) or ``sagemaker:<endpoint>[/<inference component>]``.
    embedder: str = "local"
    #: Directory with the manifest's converted models; empty means the user's cache.
    models: str = ""
    #: Whether models are compared with their checksums when they are opened; not where they cannot change.
    verify_models: bool = True
    #: Name in the model manifest.
    detector_model: str = "yunet-2023mar"
    embedder_model: str = "sface-2021dec"
    #: Lowest similarity (0–100) of a search result, where neither caller nor flag asks for more.
    search_threshold: float = 80.0
    #: Most candidates of one search.
    max_candidates: int = 10
    #: DynamoDB's vector index over the gallery's templates; empty: every collection is searched in memory.
    vector_index: str = ""
    #: Templates up to which a collection is searched in memory, exactly, also where there is an index.
    exact_up_to: int = 1_000_000
    #: Days that chips and results are kept.
    retention_days: int = 30

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from ``ABEYANCE_*`` variables; raises ``msgspec.ValidationError`` on an ill-typed one."""
        environment = os.environ if environment is None else environment
        given = {
            name: environment[f"ABEYANCE_{name.upper()}"]
            for name in cls.__struct_fields__
            if f"ABEYANCE_{name.upper()}" in environment
        }
        return msgspec.convert(given, cls, strict=False)

    def to_environment(self) -> dict[str, str]:
        """The inverse of :meth:`from_environment`: what infra and the local runtime hand to a function."""
        return {f"ABEYANCE_{name.upper()}": str(getattr(self, name)) for name in self.__struct_fields__}
