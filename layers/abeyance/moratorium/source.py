"""Sources of flags: a file, or AWS AppConfig. Never older than agreed, never a default.

A changed flag reaches every stage within ``poll_interval`` of AppConfig handing it out (15 s unless set otherwise;
files are read for every decision). When polling fails, the last flags are used until they are ``max_age`` old; from
then on there are none, and every decision is a denial. A new document that cannot be read replaces the old one at
once: it may be a halt.

Decision: the data plane, not the Lambda extension
--------------------------------------------------
The AppConfig extension keeps answering from its cache when it cannot reach AppConfig and does not say how old that
answer is, so with it ``max_age`` would bound only our own copy. The data-plane API answers from the service or not
at all, and its ``Date`` header shows when our clock is wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from msgspec import Struct, structs

from abeyance.aws.timestamps import utc_now
from abeyance.moratorium.audits import AuditFacts
from abeyance.moratorium.document import FlagSet, parse
from abeyance.moratorium.errors import Fault, FlagsError, NothingDeployed
from abeyance.moratorium.model import MAX_BYTES

if TYPE_CHECKING:
    from abeyance.aws.clients import Clients

Clock: TypeAlias = Callable[[], datetime]
#: AppConfig refuses to be asked more often than this.
SHORTEST_POLL_S: Final = 15.0
#: Age from which on flags that could not be confirmed again are no basis for a decision.
MAX_AGE_S: Final = 300.0
#: A clock that runs back by no more than this is being disciplined by NTP; more is a fault.
BACKWARD_TOLERANCE_S: Final = 2.0
#: A clock that differs more than this from the service's own is not to be decided by.
MAX_SKEW_S: Final = 60.0


class AppConfigProfile(NamedTuple):
    """A configuration profile in AppConfig, by names or ids."""

    application: str
    environment: str
    profile: str


def parse_setting(setting: str) -> Path | AppConfigProfile:
    """Return the file or the profile that the setting ``ABEYANCE_FLAGS`` names.

    Parameters
    ----------
    setting : str
        ``file:/path/to/flags.json`` or ``appconfig:<application>/<environment>/<profile>``.

    Raises
    ------
    ValueError
        If the setting names neither.
    """
    kind, _, rest = setting.partition(":")
    if kind == "file" and rest:
        return Path(rest)
    parts = rest.split("/")
    if kind != "appconfig" or len(parts) != 3 or not all(parts):
        raise ValueError("flags come from file:<path> or appconfig:<application>/<environment>/<profile>")
    return AppConfigProfile(*parts)


class Snapshot(Struct, frozen=True, kw_only=True):
    """Flags, and the last moment at which they were confirmed.

    Attributes
    ----------
    flags : FlagSet
        Compiled.
    version : str
        The source's name for them.
    fetched_at : datetime
        The moment *before* the source was last asked and confirmed them, so that a slow answer is old.
    raw : bytes
        The document as it came.
    audits : mapping
        Model to its latest audit in force.
    """

    flags: FlagSet
    version: str
    fetched_at: datetime
    raw: bytes
    audits: Mapping[str, AuditFacts] = {}


class FlagSource(Protocol):
    """The port of a source of flags."""

    def current(self) -> Snapshot:
        """Return the flags in force. Raises ``FlagsError`` when there are none that may be relied on."""
        ...


class Fetched(Struct, frozen=True, kw_only=True):
    """One answer of AppConfig: a document, or ``None`` for "unchanged", and the service's own time if given."""

    raw: bytes | None
    version: str = ""
    service_time: datetime | None = None
    #: Seconds to wait before asking again, at least.
    wait: float = 0.0


class FileSource:
    """Flags in a local file, read again for every decision: a cache would need a rule for going stale.

    Replace the file atomically (write beside it, then rename); half a file is no document, and denies. A missing file
    is no flags if it is ``optional``.
    """

    def __init__(self, path: str | Path, *, optional: bool = False, clock: Clock = utc_now) -> None:
        self._optional = optional
        self._path = Path(path)
        self._clock = clock
        self._last: tuple[bytes, FlagSet] | None = None

    def current(self) -> Snapshot:
        asked = self._clock()
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            if self._optional and isinstance(error, FileNotFoundError):
                none = FlagSet(())
                return Snapshot(flags=none, version=none.version, fetched_at=asked, raw=b"{}")
            raise FlagsError(
                Fault.FLAGS_UNAVAILABLE, "the flags file cannot be read; see the setting ABEYANCE_FLAGS"
            ) from None
        last = self._last
        if last is None or last[0] != raw:
            self._last = last = (raw, parse(raw))
        return Snapshot(flags=last[1], version=last[1].version, fetched_at=asked, raw=raw)


class AppConfigSource:
    """Flags from AppConfig, polled and held no longer than ``max_age``. Safe to share between threads.

    Parameters
    ----------
    fetch : callable
        A ``DataPlane``; raises anything when it fails.
    poll_interval : float
        Seconds between two questions; ``max_age`` must be longer.
    max_age : float
        Seconds after which the last confirmed flags are no basis for a decision.
    clock, monotonic : callable
        Wall clock and a clock that never runs back. The older of the two ages counts: the wall clock sees a
        frozen sandbox, the monotonic one a wall clock that was set back.
    """

    def __init__(
        self,
        fetch: Callable[[], Fetched],
        *,
        poll_interval: float = SHORTEST_POLL_S,
        max_age: float = MAX_AGE_S,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < poll_interval < max_age:
            raise ValueError("poll_interval must be positive and shorter than max_age")
        self._fetch = fetch
        self._poll_interval = poll_interval
        self._max_age = max_age
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._unreadable: FlagsError | None = None
        self._confirmed: float = 0.0
        self._asked: tuple[datetime, float] | None = None
        self._wait = 0.0
        self._skewed = False

    def current(self) -> Snapshot:
        with self._lock:
            now, tick = self._clock(), self._monotonic()
            if self._due(now, tick):
                self._poll(now, tick)
                now, tick = self._clock(), self._monotonic()
            return self._usable(now, tick)

    def _due(self, now: datetime, tick: float) -> bool:
        if self._asked is None:
            return True
        elapsed = max((now - self._asked[0]).total_seconds(), tick - self._asked[1])
        return elapsed >= max(self._poll_interval, self._wait) or elapsed < 0

    def _poll(self, now: datetime, tick: float) -> None:
        self._asked = (now, tick)
        self._wait = 0.0
        try:
            fetched = self._fetch()
        except Exception:  # noqa: BLE001  whatever failed, nothing was confirmed; age decides what follows
            return
        self._wait = min(fetched.wait, self._max_age / 2)
        self._skewed = fetched.service_time is not None and (
            abs((fetched.service_time - self._clock()).total_seconds()) > MAX_SKEW_S
        )
        if fetched.raw is None:
            if self._snapshot is not None:
                self._snapshot = structs.replace(self._snapshot, fetched_at=now)
                self._confirmed = tick
            return
        try:
            flags = parse(fetched.raw, version=fetched.version)
        except FlagsError as error:
            self._unreadable, self._snapshot = error, None
            return
        self._unreadable = None
        self._snapshot = Snapshot(flags=flags, version=flags.version, fetched_at=now, raw=fetched.raw)
        self._confirmed = tick

    def _usable(self, now: datetime, tick: float) -> Snapshot:
        if self._skewed:
            raise FlagsError(Fault.CLOCK_SKEW, "this machine's clock and AppConfig's disagree; set the clock")
        if self._unreadable is not None:
            raise FlagsError(self._unreadable.fault, str(self._unreadable))
        if self._snapshot is None:
            raise FlagsError(
                Fault.FLAGS_UNAVAILABLE, "AppConfig gave no flags; see its deployment and the function's role"
            )
        age = (now - self._snapshot.fetched_at).total_seconds()
        if age < -BACKWARD_TOLERANCE_S:
            raise FlagsError(Fault.CLOCK_SKEW, "this machine's clock has run back; set the clock")
        if max(age, tick - self._confirmed) > self._max_age:
            raise FlagsError(
                Fault.FLAGS_STALE,
                f"the flags are older than {self._max_age:g} seconds; AppConfig is out of reach",
            )
        return self._snapshot


class DataPlane:
    """AppConfig's data-plane API (StartConfigurationSession, GetLatestConfiguration).

    Parameters
    ----------
    client : boto3 ``appconfigdata`` client
        Give it short timeouts (a second or two) and few retries: a slow answer holds up a decision that
        will be a denial.
    application, environment, profile : str
        Names or ids.
    """

    def __init__(
        self,
        client: Any,
        application: str,
        environment: str,
        profile: str,
        *,
        poll_interval: float = SHORTEST_POLL_S,
    ) -> None:
        self._client = client
        self._session = {
            "ApplicationIdentifier": application,
            "EnvironmentIdentifier": environment,
            "ConfigurationProfileIdentifier": profile,
            "RequiredMinimumPollIntervalInSeconds": max(int(SHORTEST_POLL_S), int(poll_interval)),
        }
        self._token = ""

    def __call__(self) -> Fetched:
        fresh = not self._token
        if fresh:
            self._token = self._client.start_configuration_session(**self._session)[
                "InitialConfigurationToken"
            ]
        # A token is good for one call; where the call fails, only a new session is sure to start from a
        # whole document.
        token, self._token = self._token, ""
        answer = self._client.get_latest_configuration(ConfigurationToken=token)
        body: bytes = answer["Configuration"].read()
        if not body and fresh:
            # "Nothing new" cannot be true in a new session: there is no deployed document.
            raise NothingDeployed
        self._token = answer["NextPollConfigurationToken"]
        return Fetched(
            raw=body or None,
            version=answer.get("VersionLabel", ""),
            service_time=_http_date(
                answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
            ),
            wait=float(answer.get("NextPollIntervalInSeconds", 0)),
        )


def source_from(
    setting: str,
    clients: Clients,
    *,
    poll_interval: float = SHORTEST_POLL_S,
    max_age: float = MAX_AGE_S,
    optional: bool = False,
    clock: Clock = utc_now,
) -> FlagSource:
    """Return the source that a setting names; raises ``ValueError`` as :func:`parse_setting` does.

    Parameters
    ----------
    setting : str
        See :func:`parse_setting`.
    clients : callable
        Asked for ``appconfigdata`` if the setting names a profile.
    poll_interval, max_age : float
        Seconds; see :class:`AppConfigSource`.
    optional : bool
        Whether a file may be missing.
    """
    place = parse_setting(setting)
    if isinstance(place, Path):
        return FileSource(place, optional=optional, clock=clock)
    fetch = DataPlane(clients("appconfigdata"), *place, poll_interval=poll_interval)
    return AppConfigSource(fetch, poll_interval=poll_interval, max_age=max_age, clock=clock)


def deployed_flags(setting: str, clients: Clients, *, optional: bool = False) -> FlagSet:
    """Return the flags that are deployed at this moment, for a comparison; nothing is cached.

    Raises
    ------
    NothingDeployed
        If AppConfig knows the profile and nothing was ever deployed from it.
    FlagsError, ValueError
        As ``FlagSource.current`` and :func:`parse_setting` do; and whatever the client raises.
    """
    place = parse_setting(setting)
    if isinstance(place, Path):
        return FileSource(place, optional=optional).current().flags
    client = clients("appconfigdata")
    try:
        raw = DataPlane(client, *place)().raw
    except client.exceptions.ResourceNotFoundException as error:
        if error.response.get("ResourceType") == "Deployment":
            raise NothingDeployed from None
        raise
    if raw is None:
        raise NothingDeployed
    return parse(raw)


def _http_date(text: str) -> datetime | None:
    """Return the moment of an HTTP ``Date`` header (RFC 9110), or ``None``."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None
