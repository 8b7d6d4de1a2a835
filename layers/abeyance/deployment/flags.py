"""Builds the change service: the functions that change what is in force, watch it, validate it and announce it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from abeyance.aws.clients import Clients, client
from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment.parts import (
    build_access_keys,
    build_authorizations,
    build_ledger_queue,
    build_log_objects,
    build_publishers,
    build_tenants,
    read_deployed_flags,
)
from abeyance.deployment.settings import DeploymentSettings, FlagsSettings

if TYPE_CHECKING:
    from abeyance.moratorium.service import ChangeService
    from abeyance.moratorium.subjects import ChangeSubject

#: Deployed documents that one run of the task of drift looks up on the ledger at most.
_MOST_DOCUMENTS = 20


def build_announcements(
    settings: FlagsSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, int]]:
    """Return the task that brings the schedules of announcements in step with the flags; it counts changes."""
    from abeyance.aws.timestamps import utc_now
    from abeyance.moratorium.boundaries import SchedulerSchedule, synchronize

    settings = settings or FlagsSettings.from_environment()
    scheduler, role = clients("scheduler"), settings.announcement_role
    # arn:<partition>:iam::<account>:role/...
    _, partition, _, _, account, _ = role.split(":", 5)
    place = f"{scheduler.meta.region_name}:{account}"
    schedule = SchedulerSchedule(
        scheduler,
        group=settings.announcement_group,
        bus=f"arn:{partition}:events:{place}:event-bus/{settings.event_bus}",
        role=role,
    )

    def announce() -> dict[str, int]:
        put, removed = synchronize(schedule, read_deployed_flags(settings, clients), utc_now())
        return {"put": put, "removed": removed}

    return announce


def build_changes(settings: FlagsSettings | None = None, clients: Clients = client) -> ChangeService:
    """Return the change service: the only thing that changes flags, brake, guardrails, tenants, and people."""
    import msgspec

    from abeyance.aws.timestamps import utc_now
    from abeyance.ledger.documents import DocumentLog, RecordedPublisher
    from abeyance.ledger.note import NoteError
    from abeyance.ledger.queue import record_change
    from abeyance.ledger.signatures import good_signers
    from abeyance.moratorium.audit_store import AuditSubject
    from abeyance.moratorium.change_log import ChangeEntry, ChangeRecorder
    from abeyance.moratorium.documents import GovernedDocument
    from abeyance.moratorium.guardrail_store import GuardrailCheck, GuardrailSubject, GuardrailTable
    from abeyance.moratorium.inforce import FLAGS, InForceTable
    from abeyance.moratorium.presets import new_deployment, no_flags
    from abeyance.moratorium.principals import Principals
    from abeyance.moratorium.service import ChangeService
    from abeyance.moratorium.subjects import (
        AuthorizationSubject,
        ChangeRefused,
        LinkSubject,
        TenantSubject,
    )

    settings = settings or FlagsSettings.from_environment()
    table = DynamoTable(clients("dynamodb"), settings.proposals_table)
    queue, tenants = build_ledger_queue(settings, clients), build_tenants(settings, clients)

    def send(entry: ChangeEntry) -> None:
        record_change(queue, entry.kind, dict(entry.body), entry_id=entry.id, time=entry.time)

    def verify_note(note: str, keys: Iterable[str]) -> tuple[str, ...]:
        try:
            return good_signers(note, keys)
        except NoteError as error:
            raise ChangeRefused(str(error)) from None

    changes = ChangeRecorder(table, send, utc_now)
    guardrails = GuardrailTable(table)
    check = GuardrailCheck(guardrails, InForceTable(table), utc_now)
    log = DocumentLog(queue, build_log_objects(settings, clients))
    on_file = settings.flags.startswith("file:")
    documents = {
        name: GovernedDocument(
            name,
            RecordedPublisher(publisher, log),
            table,
            changes,
            initial=new_deployment if name == FLAGS else no_flags,
            clock=utc_now,
            gradual=name == FLAGS,
            adopts=on_file,
            places=lambda: {tenant.jurisdiction for tenant in tenants.all()},
            guardrails=check,
        )
        for name, publisher in build_publishers(settings, clients).items()
    }
    principals = Principals(
        table, msgspec.json.decode(settings.first_principals or "{}", type=dict[str, str])
    )
    links = LinkSubject(principals, table, check.most_people)
    authorizations = AuthorizationSubject(
        build_authorizations(settings, clients), tenants, table, check.registrations, utc_now
    )
    audits = AuditSubject(
        table,
        verify_note,
        lambda: [flags for document in documents.values() for flags in document.in_force()],
        check.registrations,
        log.record_audit,
        utc_now,
    )
    subjects: dict[str, ChangeSubject] = {
        "tenant": TenantSubject(tenants, table, check.registrations),
        "link": links,
        "unlink": links,
        "authorization": authorizations,
        "revocation": authorizations,
        "audit": audits,
    }
    rails = GuardrailSubject(
        guardrails,
        table,
        changes,
        lambda: documents[FLAGS].refresh().record,
        log.record_guardrails,
        utc_now,
    )
    return ChangeService(table, principals, changes, documents, rails, subjects, log.record_change, utc_now)


def build_change_endpoint(
    settings: FlagsSettings | None = None, clients: Clients = client
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function that answers a proxy event of API Gateway for the change service."""
    from abeyance.moratorium.audit_store import AUDITS, audits_of
    from abeyance.moratorium.callers import sign_in_from
    from abeyance.moratorium.endpoint import ChangeEndpoint
    from abeyance.moratorium.inforce import InForceTable

    settings = settings or FlagsSettings.from_environment()
    tenants = build_tenants(settings, clients)
    records = InForceTable(DynamoTable(clients("dynamodb"), settings.proposals_table))
    return ChangeEndpoint(
        build_changes(settings, clients),
        sign_in_from(settings.sign_in, settings.person_roles.split()),
        lambda: list(tenants.all()),
        build_access_keys(settings, settings.tenants_table, clients),
        build_authorizations(settings, clients).all,
        lambda: audits_of(records.read(AUDITS)),
    )


def build_use_log(
    settings: FlagsSettings | DeploymentSettings, clients: Clients = client
) -> Callable[[], int]:
    """Return the task that puts each use of an authorisation on the ledger, and counts those that were new."""
    from abeyance.ledger.queue import record_change
    from abeyance.moratorium.authorization_uses import USED

    uses = build_authorizations(settings, clients).uses
    queue = build_ledger_queue(settings, clients)

    def put_on_ledger() -> int:
        new = uses.new()
        for use in new:
            record_change(queue, USED, use.body(), entry_id=use.entry, time=use.at)
            uses.recorded(use)
        return len(new)

    return put_on_ledger


def build_watch(
    settings: FlagsSettings | None = None, clients: Clients = client
) -> Callable[[], dict[str, Any]]:
    """Return the task that finds drift, deploys what waits, and sends to the ledger what could not be sent before."""
    from abeyance.ledger.documents import DocumentLog
    from abeyance.moratorium.guardrail_store import GuardrailTable
    from abeyance.moratorium.inforce import InForceTable

    settings = settings or FlagsSettings.from_environment()
    changes = build_changes(settings, clients)
    table = DynamoTable(clients("dynamodb"), settings.proposals_table)
    records, guardrails = InForceTable(table), GuardrailTable(table)
    log = DocumentLog(build_ledger_queue(settings, clients), build_log_objects(settings, clients))
    publishers = build_publishers(settings, clients)
    recorded: dict[str, set[str]] = {name: set() for name in publishers}
    generations: set[str] = set()
    log_uses = build_use_log(settings, clients)

    def watch() -> dict[str, Any]:
        answered = changes.watch()
        agreed = [document for record in records.read_all().values() for document in record.agreed()]
        new = sum(map(log.record, agreed))
        # A document may have come and gone while the ledger did not answer.
        for name, publisher in publishers.items():
            for published in itertools.islice(publisher.deployed(recorded[name]), _MOST_DOCUMENTS):
                new += log.record(published.document)
                recorded[name].add(published.version)
        for generation, document in guardrails.history(generations):
            new += log.record_guardrails(document)
            generations.add(generation)
        return {**answered, "recorded": new, "uses": log_uses()}

    return watch


def build_validator(
    settings: FlagsSettings | None = None, clients: Clients = client
) -> Callable[[Mapping[str, Any]], None]:
    """Return AppConfig's validator: only what the change service deploys at this moment can be deployed."""
    from abeyance.moratorium.inforce import InForceTable
    from abeyance.moratorium.validator import DeploymentValidator

    settings = settings or FlagsSettings.from_environment()
    records = InForceTable(DynamoTable(clients("dynamodb"), settings.proposals_table))
    publishers = build_publishers(settings, clients)
    return DeploymentValidator(records.read_all, lambda name: str(getattr(publishers[name], "profile", "")))


def build_flags(
    settings: FlagsSettings | None = None, clients: Clients = client
) -> Callable[[Mapping[str, Any]], dict[str, Any] | None]:
    """Return the function of the change service: requests, AppConfig's validator, and its tasks, by the event."""
    from abeyance.pipeline import topology

    settings = settings or FlagsSettings.from_environment()
    endpoint = functools.cache(lambda: build_change_endpoint(settings, clients))
    validator = functools.cache(lambda: build_validator(settings, clients))
    tasks = {
        topology.ANNOUNCE.task: functools.cache(lambda: build_announcements(settings, clients)),
        topology.WATCH.task: functools.cache(lambda: build_watch(settings, clients)),
    }

    def answer(event: Mapping[str, Any]) -> dict[str, Any] | None:
        if "requestContext" in event:
            return endpoint()(event)
        if "task" in event:
            return dict(tasks[event["task"]]()())
        validator()(event)
        return None

    return answer
