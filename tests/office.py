"""People who change what is in force: signed requests to the change service, as API Gateway hands them on."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import VirtualClock, deterministic
from tests.simulation.faults import Faults

# Loaded before time becomes virtual, so that its clocks do.
import abeyance.moratorium.governed  # noqa: F401
from abeyance.aws.dynamodb import DynamoTable
from abeyance.deployment import build
from abeyance.deployment.flags import build_flags
from abeyance.deployment.settings import DeploymentSettings, FlagsSettings
from abeyance.ledger.documents import DOCUMENT, GUARDRAILS_DOCUMENT
from abeyance.moratorium.client import ChangeClient
from abeyance.moratorium.document import FlagSet
from abeyance.moratorium.inforce import FLAGS, InForce, InForceTable
from abeyance.moratorium.proposals import Proposal
from abeyance.moratorium.source import FlagSource
from abeyance.moratorium.subjects import Change
from abeyance.moratorium.tenants import TenantTable
from abeyance.pipeline import topology

if TYPE_CHECKING:
    from tests.appconfig import FakeAppConfig

ACCOUNT = "123456789012"
#: The principal of the console itself, which is nobody.
CONSOLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/abeyance-console-eu-central-1/abeyance-console"


def user(name: str) -> str:
    """Return the ARN of an IAM user."""
    return f"arn:aws:iam::{ACCOUNT}:user/{name}"


#: Settings of the change service: people, by the principals that they have.
PEOPLE = ("alice", "bob", "carol", "clara", "dora")
FIRST_PRINCIPALS = {user(name): name for name in PEOPLE}
SETTINGS: dict[str, Any] = {"first_principals": json.dumps(FIRST_PRINCIPALS), "person_roles": "Officers"}


def signed(signer: str, body: bytes, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the event of a request that ``signer`` signed (REST API, AWS_IAM)."""
    return {
        "resource": "/changes",
        "path": "/changes",
        "httpMethod": "POST",
        "headers": dict(headers or {}),
        "requestContext": {"accountId": ACCOUNT, "requestId": "r", "identity": {"userArn": signer}},
        "body": body.decode(),
        "isBase64Encoded": False,
    }


def client_of(signer: str, answer: Callable[[dict[str, Any]], Any]) -> ChangeClient:
    """Return a client that signs as somebody, in front of the function."""

    def post(body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        response = answer(signed(signer, body, headers))
        return response["statusCode"], response["body"].encode()

    return ChangeClient(post)


class ApiGateway:
    """The client ``execute-api`` of :mod:`abeyance.aws.clients`: every request is signed by ``signer``."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any], signer: str = CONSOLE) -> None:
        self._answer = answer
        self.signer = signer

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body; raises ``OSError`` if the function fails."""
        try:
            response = self._answer(signed(self.signer, body, headers))
        except Exception as error:
            raise ConnectionError(type(error).__name__) from None
        return response["statusCode"], response["body"].encode()


class Office:
    """One deployment's change service over AWS in memory, the people around it, and stages that poll.

    The service runs as its function does; time is ``clock``'s (see :func:`tests.simulation.clock.deterministic`).
    """

    def __init__(self, clock: VirtualClock, chance: random.Random, **settings: Any) -> None:
        from tests.simulation.aws import SimulatedAws

        faults = Faults(random=chance)
        faults.active = False
        self.clock = clock
        self.aws = SimulatedAws(clock, faults, chance)
        self.settings = DeploymentSettings.of(
            flags="appconfig:abeyance/live/moratoria", brake="appconfig:abeyance/brake/brake"
        )
        self.aws.create(self.settings)
        own = {**self.settings.values(), **SETTINGS, **settings}
        known = set(FlagsSettings.variables().values())
        self.function = build_flags(
            FlagsSettings.of(**{name: value for name, value in own.items() if name in known}), self.aws.client
        )
        self.aws.change_service = self.aws.appconfig.validate = self.function
        self.watch()

    @property
    def appconfig(self) -> FakeAppConfig:
        """AppConfig."""
        return self.aws.appconfig

    def watch(self) -> None:
        """Do the task of every minute."""
        self.function({"task": topology.WATCH.task})

    def wait(self, seconds: float) -> None:
        """Let time go by, with the task of every minute."""
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self.clock.advance(min(60.0, until_s - self.clock.now_s))
            self.watch()

    def person(self, name: str) -> ChangeClient:
        """Return the change service for an IAM user."""
        return client_of(user(name), self.function)

    def ask(self, signer: str, headers: Mapping[str, str] | None = None, **request: Any) -> tuple[int, Any]:
        """Send a request signed by any ARN; return status and content of the answer."""
        answer = self.function(signed(signer, json.dumps(request).encode(), headers))
        assert answer is not None
        return answer["statusCode"], json.loads(answer["body"])

    def agree(self, change: Change, by: Sequence[str] = ("alice", "bob", "carol")) -> Proposal:
        """As many people as it takes make a change, in this order."""
        made = self.person(by[0]).submit(change)
        for name in by[1:]:
            if made.state == "applied":
                break
            made = self.person(name).approve(made.id, made.digest)
        return made

    def settle(self) -> None:
        """Wait until every rollout is over."""
        self.wait(2 * 3600 + 180)

    def stage(self) -> FlagSource:
        """Return the flags as a stage that starts now polls them."""
        return build.build_flag_source(self.settings, self.aws.client)

    def effective(self) -> FlagSet:
        """Return the flags by which such a stage decides."""
        return self.stage().current().flags

    def record(self, name: str = FLAGS) -> InForce:
        """Return the record of what is in force, as it stands in the table."""
        table = DynamoTable(self.aws.client("dynamodb"), self.settings.proposals_table)
        record = InForceTable(table).read(name)
        assert record is not None
        return record

    def tenants(self) -> TenantTable:
        """Return the registry, to read and to forge."""
        return build.build_tenants(self.settings, self.aws.client)

    def ledger(self) -> list[tuple[str, dict[str, Any]]]:
        """Return type and body of what was sent to the ledger, in its order, without documents."""
        return [one for one in self.recorded() if one[0] not in (DOCUMENT, GUARDRAILS_DOCUMENT)]

    def recorded(self) -> list[tuple[str, dict[str, Any]]]:
        """Return type and body of what was sent to the ledger, in its order."""
        messages = self.aws.sqs.queues[topology.LEDGER.queue].messages
        records = [json.loads(message.body) for message in messages]
        return [(record["type"], record["body"]) for record in records if "type" in record]

    def types(self) -> list[str]:
        """Return the types of what was sent to the ledger."""
        return [kind for kind, _ in self.ledger()]


@contextlib.contextmanager
def offices() -> Iterator[Callable[..., Office]]:
    """Open virtual time, and return what makes an office in it."""
    clock, chance = VirtualClock(), random.Random(0)
    with deterministic(clock, chance):

        def make(**settings: Any) -> Office:
            clock.reset()
            return Office(clock, chance, **settings)

        yield make
