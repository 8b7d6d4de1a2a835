"""Sources of flags: fresh, or none."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from abeyance.moratorium.errors import Fault, FlagsError, NothingDeployed
from abeyance.moratorium.source import (
    AppConfigSource,
    DataPlane,
    Fetched,
    FileSource,
    deployed_flags,
    source_from,
)

from .conftest import hosted, value

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE = json.dumps({"a": value()}).encode()
TWO = json.dumps({"a": value(), "b": value()}).encode()


class Time:
    """A wall clock and a monotonic one that move together unless told otherwise."""

    def __init__(self) -> None:
        self.wall = NOW
        self.tick = 1000.0

    def __call__(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.tick

    def pass_(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.tick += seconds


class Script:
    """Answers of AppConfig, one by one, the last for ever; an exception is raised."""

    def __init__(self, *answers: Fetched | Exception | Callable[[], Fetched]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> Fetched:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


def new(raw: bytes, **others: Any) -> Fetched:
    return Fetched(raw=raw, **others)


SAME = Fetched(raw=None)


def source(script: Script, time: Time, **others: Any) -> AppConfigSource:
    options: dict[str, Any] = {"poll_interval": 15, "max_age": 60} | others
    return AppConfigSource(script, clock=time, monotonic=time.monotonic, **options)


def fault(found: AppConfigSource | FileSource) -> Fault:
    with pytest.raises(FlagsError) as caught:
        found.current()
    return caught.value.fault


def test_polls_only_after_the_interval_and_then_sees_the_change() -> None:
    time, script = Time(), Script(new(ONE), new(TWO))
    flags = source(script, time)
    assert len(flags.current().flags.flags) == 1
    time.pass_(14.9)
    assert len(flags.current().flags.flags) == 1
    assert script.asked == 1
    time.pass_(0.1)
    assert len(flags.current().flags.flags) == 2


def test_unchanged_flags_stay_fresh() -> None:
    time, script = Time(), Script(new(ONE, version="7"), SAME)
    flags = source(script, time)
    flags.current()
    for _ in range(20):
        time.pass_(30)
        assert flags.current().version == "7"
        assert flags.current().fetched_at == time.wall


def test_old_flags_serve_until_max_age_and_no_longer() -> None:
    time, script = Time(), Script(new(ONE), TimeoutError())
    flags = source(script, time)
    flags.current()
    time.pass_(60)
    assert flags.current().fetched_at == NOW
    time.pass_(0.1)
    assert fault(flags) is Fault.FLAGS_STALE


def test_recovers_when_appconfig_does() -> None:
    time, script = Time(), Script(new(ONE), TimeoutError(), SAME)
    flags = source(script, time)
    flags.current()
    time.pass_(61)
    assert fault(flags) is Fault.FLAGS_STALE
    time.pass_(15)
    assert flags.current().fetched_at == time.wall


def test_failing_polls_are_not_repeated_for_every_decision() -> None:
    time, script = Time(), Script(TimeoutError())
    flags = source(script, time)
    for _ in range(50):
        assert fault(flags) is Fault.FLAGS_UNAVAILABLE
    assert script.asked == 1


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", Fault.FLAGS_EMPTY),
        (ONE[:-5], Fault.FLAGS_UNREADABLE),
        (b'{"version": "2", "flags": {}, "values": {}}', Fault.FLAGS_SCHEMA_VERSION),
    ],
)
def test_an_unreadable_new_document_replaces_the_readable_old_one(raw: bytes, expected: Fault) -> None:
    time, script = Time(), Script(new(ONE), new(raw), SAME, TimeoutError(), new(TWO))
    flags = source(script, time)
    flags.current()
    for _ in range(3):
        time.pass_(15)
        assert fault(flags) is expected
    time.pass_(15)
    assert len(flags.current().flags.flags) == 2


def test_a_slow_answer_is_as_old_as_its_question() -> None:
    time = Time()

    def slow() -> Fetched:
        time.pass_(61)
        return new(ONE)

    assert fault(source(Script(slow), time)) is Fault.FLAGS_STALE


def test_a_wall_clock_set_back_cannot_make_flags_young() -> None:
    time, script = Time(), Script(new(ONE), TimeoutError())
    flags = source(script, time)
    flags.current()
    time.tick += 61
    assert fault(flags) is Fault.FLAGS_STALE
    time.wall -= timedelta(hours=1)
    assert fault(flags) is Fault.CLOCK_SKEW


def test_a_sandbox_frozen_for_an_hour_does_not_decide_by_what_it_had() -> None:
    time, script = Time(), Script(new(ONE), TimeoutError())
    flags = source(script, time)
    flags.current()
    time.wall += timedelta(hours=1)
    assert fault(flags) is Fault.FLAGS_STALE


@pytest.mark.parametrize(
    ("seconds", "usable"), [(59, True), (-59, True), (61, False), (-61, False), (-86400, False)]
)
def test_a_clock_that_disagrees_with_appconfig_s_decides_nothing(seconds: int, usable: bool) -> None:
    time = Time()
    flags = source(Script(new(ONE, service_time=NOW + timedelta(seconds=seconds))), time)
    if usable:
        flags.current()
    else:
        assert fault(flags) is Fault.CLOCK_SKEW


def test_asks_no_sooner_than_the_service_wants() -> None:
    time, script = Time(), Script(new(ONE, wait=30), SAME)
    flags = source(script, time)
    flags.current()
    time.pass_(29)
    flags.current()
    assert script.asked == 1
    time.pass_(1)
    flags.current()
    assert script.asked == 2


@pytest.mark.parametrize(("poll", "age"), [(0, 60), (60, 60), (-1, 60), (61, 60)])
def test_nonsensical_limits_are_refused(poll: float, age: float) -> None:
    with pytest.raises(ValueError, match="poll_interval"):
        AppConfigSource(Script(new(ONE)), poll_interval=poll, max_age=age)


def test_threads_share_one_poll() -> None:
    time, script = Time(), Script(new(ONE))
    flags = source(script, time)
    threads = [threading.Thread(target=flags.current) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert script.asked == 1


# -- the data-plane API


class Missing(Exception):
    def __init__(self, resource: str) -> None:
        self.response = {"ResourceType": resource}


class Client:
    """The two calls of the ``appconfigdata`` client; bodies are handed out in turn."""

    class exceptions:  # noqa: N801
        ResourceNotFoundException = Missing

    def __init__(self, *bodies: bytes | Exception, date: str = "") -> None:
        self.bodies = list(bodies)
        self.sessions: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.date = date

    def start_configuration_session(self, **arguments: Any) -> dict[str, Any]:
        self.sessions.append(arguments)
        return {"InitialConfigurationToken": f"session-{len(self.sessions)}"}

    def get_latest_configuration(self, *, ConfigurationToken: str) -> dict[str, Any]:
        self.tokens.append(ConfigurationToken)
        body = self.bodies.pop(0)
        if isinstance(body, Exception):
            raise body
        return {
            "Configuration": io.BytesIO(body),
            "NextPollConfigurationToken": f"{ConfigurationToken}+",
            "NextPollIntervalInSeconds": 15,
            "VersionLabel": "v3",
            "ResponseMetadata": {"HTTPHeaders": {"date": self.date} if self.date else {}},
        }


def test_data_plane_goes_on_with_the_next_token() -> None:
    client = Client(ONE, b"", TWO)
    fetch = DataPlane(client, "app", "env", "profile", poll_interval=5)
    assert fetch().raw == ONE
    assert fetch().raw is None
    assert fetch() == Fetched(raw=TWO, version="v3", wait=15.0)
    assert client.tokens == ["session-1", "session-1+", "session-1++"]
    assert client.sessions[0]["RequiredMinimumPollIntervalInSeconds"] == 15


def test_data_plane_begins_anew_after_an_error() -> None:
    client = Client(ONE, TimeoutError(), TWO)
    fetch = DataPlane(client, "app", "env", "profile")
    fetch()
    with pytest.raises(TimeoutError):
        fetch()
    assert fetch().raw == TWO
    assert len(client.sessions) == 2


def test_nothing_in_a_new_session_is_not_nothing_new() -> None:
    with pytest.raises(NothingDeployed):
        DataPlane(Client(b""), "app", "env", "profile")()


def test_data_plane_reads_the_service_s_clock() -> None:
    fetch = DataPlane(Client(ONE, date=format_datetime(NOW, usegmt=True)), "app", "env", "profile")
    assert fetch().service_time == NOW
    assert DataPlane(Client(ONE, date="yesterday"), "app", "env", "profile")().service_time is None


def test_deployed_flags_tells_nothing_deployed_from_out_of_reach() -> None:
    setting = "appconfig:app/env/profile"
    assert len(deployed_flags(setting, lambda _: Client(ONE)).flags) == 1
    with pytest.raises(NothingDeployed):
        deployed_flags(setting, lambda _: Client(Missing("Deployment")))
    with pytest.raises(Missing):
        deployed_flags(setting, lambda _: Client(Missing("Application")))
    with pytest.raises(TimeoutError):
        deployed_flags(setting, lambda _: Client(TimeoutError()))


# -- a file


def test_a_file_is_read_anew_whenever_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(ONE)
    flags = FileSource(path, clock=Time())
    first = flags.current()
    assert len(first.flags.flags) == 1
    assert flags.current().flags is first.flags
    path.write_bytes(TWO)
    assert len(flags.current().flags.flags) == 2


def test_a_file_replaced_within_a_moment_at_the_same_size_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(json.dumps({"a": value(reason="Yes.")}).encode())
    stamp = path.stat()
    flags = FileSource(path)
    flags.current()
    path.write_bytes(json.dumps({"a": value(reason="No!.")}).encode())
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert flags.current().flags.flags[0].reason == "No!."


def test_a_file_that_is_gone_or_half_written_is_no_flags(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    flags = FileSource(path)
    assert fault(flags) is Fault.FLAGS_UNAVAILABLE
    path.write_text(json.dumps(hosted(a=value()))[:-10])
    assert fault(flags) is Fault.FLAGS_UNREADABLE
    path.write_text("")
    assert fault(flags) is Fault.FLAGS_EMPTY
    path.write_text("{}")
    assert flags.current().flags.flags == ()
    path.unlink()
    assert fault(flags) is Fault.FLAGS_UNAVAILABLE


def test_file_errors_do_not_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FlagsError) as caught:
        FileSource(tmp_path / "secret-name.json").current()
    assert "secret-name" not in str(caught.value)


@pytest.mark.parametrize(
    "setting", ["", "file:", "appconfig:app/env", "appconfig:a//b", "s3:bucket/key", "flags.json"]
)
def test_settings_that_name_no_source_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="flags come from"):
        source_from(setting, Client)
