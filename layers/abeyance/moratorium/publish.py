"""Putting a document into force: a local file, or an AppConfig deployment.

Tightening goes out at once. Loosening goes out gradually, so that a mistake meets an alarm before it meets
everyone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from abeyance.moratorium.document import FlagSet, is_hosted, load, parse
from abeyance.moratorium.errors import Fault, FlagsError, MoratoriumError, NothingDeployed
from abeyance.moratorium.source import parse_setting

if TYPE_CHECKING:
    from abeyance.aws.clients import Clients


class PublishConflict(MoratoriumError):
    """Somebody else published meanwhile: look at what is in force now, and propose again."""


class Published(Struct, frozen=True, kw_only=True):
    """The hosted document in force, compiled, and what its store calls its version."""

    document: dict[str, Any]
    flags: FlagSet
    version: str


class FlagPublisher(Protocol):
    """The port through which documents come into force."""

    def current(self) -> Published:
        """Return the hosted document in force. Raises ``FlagsError`` when there is none that can be read."""
        ...

    def publish(self, document: dict[str, Any], /, *, base: str, gradual: bool, note: str) -> str:
        """Put a document into force.

        Parameters
        ----------
        document : dict
            A valid hosted document.
        base : str
            ``FlagSet.digest`` of what it replaces. Raises ``PublishConflict`` if that is no longer in force.
        gradual : bool
            Whether to let it out little by little.
        note : str
            For the history; says who and why.

        Returns
        -------
        str
            The new version.
        """
        ...


class FilePublisher:
    """A local file, replaced atomically; every version stays beside it in ``<name>.history``.

    The number of a version is claimed by creating its file exclusively, so of two who publish at once one
    fails.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._history = self._path.with_name(self._path.name + ".history")

    def current(self) -> Published:
        try:
            raw = self._path.read_bytes()
        except OSError:
            raise FlagsError(Fault.FLAGS_UNAVAILABLE, f"there are no flags at {self._path}") from None
        document = load(raw)
        if not is_hosted(document):
            raise FlagsError(Fault.FLAGS_UNREADABLE, "the flags file must have version, flags and values")
        return Published(document=document, flags=parse(document), version=str(self._latest()))

    def publish(self, document: dict[str, Any], /, *, base: str, gradual: bool, note: str) -> str:
        """Put a document into force; a file knows no gradual deployment, so it is always at once."""
        flags = parse(document)
        number = self._latest() + 1
        if self.current().flags.digest != base:
            raise PublishConflict("the flags in force have changed; look at them and propose again")
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        self._history.mkdir(exist_ok=True)
        kept = self._history / f"{number:06d}.json"
        try:
            with kept.open("x", encoding="utf-8") as file:
                json.dump(
                    {"note": note, "digest": flags.digest, "document": document}, file, ensure_ascii=False
                )
        except FileExistsError:
            raise PublishConflict("somebody is publishing at this moment; try again") from None
        try:
            self._replace(text)
        except OSError:
            kept.unlink(missing_ok=True)
            raise
        return str(number)

    def _latest(self) -> int:
        numbers = [int(entry.stem) for entry in self._history.glob("*.json") if entry.stem.isdigit()]
        return max(numbers, default=0)

    def _replace(self, text: str) -> None:
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name, suffix=".new")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


#: Strategies that a deployment of this system brings along: at once and done; and by and by, back if an alarm rings.
TIGHTEN, LOOSEN = "abeyance-tighten", "abeyance-loosen"


class AppConfigPublisher:
    """AppConfig's control plane: a new hosted version, then a deployment of it.

    Parameters
    ----------
    client : boto3 ``appconfig`` client
    application, environment, profile : str
        Ids or names.
    tighten, loosen : str
        Ids or names of deployment strategies. The best one to tighten with has neither growth nor bake time:
        AppConfig takes no new deployment while one bakes, and the predefined ``AppConfig.AllAtOnce`` bakes for ten
        minutes.
    sleep : callable
        Waits between attempts while an earlier deployment is being stopped.
    """

    def __init__(
        self,
        client: Any,
        application: str,
        environment: str,
        profile: str,
        *,
        tighten: str = "AppConfig.AllAtOnce",
        loosen: str = "AppConfig.Linear20PercentEvery6Minutes",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._names = (application, environment, profile)
        self._strategies = {False: tighten, True: loosen}
        self._sleep = sleep
        self._found: tuple[str, str, str] | None = None

    def current(self) -> Published:
        application, _, profile = self._ids()
        # A deployment that bakes has reached everyone already.
        deployed = [entry for entry in self._deployments() if entry["State"] in ("COMPLETE", "BAKING")]
        if not deployed:
            raise NothingDeployed
        version = deployed[0]["ConfigurationVersion"]
        answer = self._client.get_hosted_configuration_version(
            ApplicationId=application, ConfigurationProfileId=profile, VersionNumber=int(version)
        )
        document = load(answer["Content"].read())
        return Published(document=document, flags=parse(document), version=str(version))

    def publish(self, document: dict[str, Any], /, *, base: str, gradual: bool, note: str) -> str:
        application, environment, profile = self._ids()
        flags = parse(document)
        in_force = self.current()
        if in_force.flags.digest != base:
            raise PublishConflict("the flags in force have changed; look at them and propose again")
        latest = self._latest()
        try:
            created = self._client.create_hosted_configuration_version(
                ApplicationId=application,
                ConfigurationProfileId=profile,
                Description=note[:1024],
                Content=json.dumps(document, ensure_ascii=False).encode(),
                ContentType="application/json",
                LatestVersionNumber=latest,
                VersionLabel=f"v{latest + 1}-{flags.digest[:12]}",
            )
        except self._client.exceptions.ConflictException:
            raise PublishConflict("somebody is publishing at this moment; try again") from None
        version = str(created["VersionNumber"])
        request = {
            "ApplicationId": application,
            "EnvironmentId": environment,
            "DeploymentStrategyId": self._strategy(self._strategies[gradual]),
            "ConfigurationProfileId": profile,
            "ConfigurationVersion": version,
            "Description": note[:1024],
        }
        for attempt in range(5):
            try:
                self._client.start_deployment(**request)
                return version
            except self._client.exceptions.ConflictException:
                if gradual:
                    raise PublishConflict("another deployment is under way; wait for its end") from None
                # Tightening does not wait for a deployment that may be loosening: that one is stopped.
                self._stop_what_runs()
                self._sleep(2.0**attempt)
        raise PublishConflict(
            "the deployment under way could not be stopped; stop it in the AppConfig console"
        )

    def _stop_what_runs(self) -> None:
        application, environment, _ = self._ids()
        for entry in self._deployments():
            if entry["State"] in ("DEPLOYING", "VALIDATING", "BAKING"):
                with contextlib.suppress(self._client.exceptions.BadRequestException):
                    self._client.stop_deployment(
                        ApplicationId=application,
                        EnvironmentId=environment,
                        DeploymentNumber=entry["DeploymentNumber"],
                    )

    def _deployments(self) -> list[dict[str, Any]]:
        """Deployments of this profile, newest first."""
        application, environment, profile = self._ids()
        found = self._pages(
            self._client.list_deployments, ApplicationId=application, EnvironmentId=environment
        )
        names = {profile, self._names[2]}
        mine = [
            entry
            for entry in found
            # Older answers carry only the profile's name.
            if entry.get("ConfigurationProfileId", entry.get("ConfigurationName", profile)) in names
        ]
        return sorted(mine, key=lambda entry: -int(entry["DeploymentNumber"]))

    def _latest(self) -> int:
        application, _, profile = self._ids()
        versions = self._pages(
            self._client.list_hosted_configuration_versions,
            ApplicationId=application,
            ConfigurationProfileId=profile,
        )
        return max((int(entry["VersionNumber"]) for entry in versions), default=0)

    def _ids(self) -> tuple[str, str, str]:
        if self._found is None:
            application = self._id(self._client.list_applications, self._names[0])
            self._found = (
                application,
                self._id(self._client.list_environments, self._names[1], ApplicationId=application),
                self._id(self._client.list_configuration_profiles, self._names[2], ApplicationId=application),
            )
        return self._found

    def _strategy(self, name: str) -> str:
        if name.startswith("AppConfig."):  # the predefined ones are not in a list
            return name
        return self._id(self._client.list_deployment_strategies, name)

    def _id(self, listing: Callable[..., dict[str, Any]], name: str, **scope: str) -> str:
        for entry in self._pages(listing, **scope):
            if name in (entry["Id"], entry["Name"]):
                return str(entry["Id"])
        if re.fullmatch(r"[a-z0-9]{4,7}", name):
            return name
        raise FlagsError(Fault.FLAGS_UNAVAILABLE, f"AppConfig has nothing called {name!r}")

    @staticmethod
    def _pages(listing: Callable[..., dict[str, Any]], **arguments: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = listing(**arguments)
            found += page.get("Items", [])
            if not page.get("NextToken"):
                return found
            arguments["NextToken"] = page["NextToken"]


def publisher_from(setting: str, clients: Clients) -> FlagPublisher:
    """Return the publisher to the setting of :func:`~abeyance.moratorium.source.parse_setting`.

    ``clients`` is asked for ``appconfig`` if the setting names a profile.
    """
    place = parse_setting(setting)
    if isinstance(place, Path):
        return FilePublisher(place)
    return AppConfigPublisher(clients("appconfig"), *place, tighten=TIGHTEN, loosen=LOOSEN)
