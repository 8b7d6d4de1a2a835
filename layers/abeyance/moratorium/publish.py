"""The stores of a document: a local file, or an environment of AppConfig. Nobody but the change service deploys.

A store deploys a document and returns what it hands out; whether that may be is the change service's to decide. Nothing
here waits: a store that is busy raises, and the service tries again when it is next called.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from abeyance.moratorium.document import FlagSet, is_hosted, load, parse
from abeyance.moratorium.errors import Fault, FlagsError, MoratoriumError, NothingDeployed
from abeyance.moratorium.source import parse_setting

if TYPE_CHECKING:
    from abeyance.aws.clients import Clients


class DeploymentBusy(MoratoriumError):
    """Another deployment is under way: wait for its end, then try again."""


class Published(Struct, frozen=True, kw_only=True):
    """A hosted document, compiled, and what its store calls its version."""

    document: dict[str, Any]
    flags: FlagSet
    version: str


class Serving(Struct, frozen=True, kw_only=True):
    """The documents that a store hands out now.

    Attributes
    ----------
    documents
        Newest deployment first; two while one is being rolled out or back.
    settled
        Whether no deployment is under way.
    undone
        Version of the newest deployed document if it was rolled back or reverted, else "".
    """

    documents: tuple[Published, ...]
    settled: bool
    undone: str = ""


class FlagPublisher(Protocol):
    """The port of a store of one document."""

    def serving(self) -> Serving:
        """Return what is handed out. Raises ``NothingDeployed``, or ``FlagsError`` for what cannot be read."""
        ...

    def deploy(self, document: dict[str, Any], /, *, gradual: bool, note: str) -> str:
        """Begin to hand out a valid document, and return its version.

        Parameters
        ----------
        gradual : bool
            Whether to let it out little by little. What is not gradual stops what is under way.
        note : str
            For the history; says who and why.

        Raises
        ------
        DeploymentBusy
            If another deployment is under way, and could not be stopped at once.
        """
        ...

    def deployed(self, known: Container[str] = ()) -> Iterator[Published]:
        """Yield the documents that were ever deployed, newest first, but for those of ``known`` versions."""
        ...


class FilePublisher:
    """A local file, replaced atomically; every version stays beside it in ``<name>.history``.

    The number of a version is claimed by creating its file exclusively, so of two who publish at once one
    fails.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._history = self._path.with_name(self._path.name + ".history")

    def serving(self) -> Serving:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            raise NothingDeployed from None
        except OSError:
            raise FlagsError(Fault.FLAGS_UNAVAILABLE, f"there are no flags at {self._path}") from None
        document = load(raw)
        if not is_hosted(document):
            raise FlagsError(Fault.FLAGS_UNREADABLE, "the flags file must have version, flags and values")
        one = Published(document=document, flags=parse(document), version=str(self._latest()))
        return Serving(documents=(one,), settled=True)

    def deploy(self, document: dict[str, Any], /, *, gradual: bool, note: str) -> str:
        """Replace the file; a file knows no gradual deployment, so it is always at once."""
        flags = parse(document)
        number = self._latest() + 1
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        self._history.mkdir(exist_ok=True)
        kept = self._history / f"{number:06d}.json"
        try:
            with kept.open("x", encoding="utf-8") as file:
                json.dump(
                    {"note": note, "digest": flags.digest, "document": document}, file, ensure_ascii=False
                )
        except FileExistsError:
            raise DeploymentBusy("somebody is publishing at this moment; try again") from None
        try:
            self._replace(text)
        except OSError:
            kept.unlink(missing_ok=True)
            raise
        return str(number)

    def deployed(self, known: Container[str] = ()) -> Iterator[Published]:
        for kept in sorted(self._history.glob("*.json"), reverse=True):
            if kept.stem.isdigit() and (version := str(int(kept.stem))) not in known:
                document = json.loads(kept.read_bytes())["document"]
                yield Published(document=document, flags=parse(document), version=version)

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
_UNDER_WAY: Final = frozenset({"DEPLOYING", "VALIDATING", "BAKING", "ROLLING_BACK"})
_UNDONE: Final = frozenset({"ROLLED_BACK", "REVERTED"})


class AppConfigPublisher:
    """One profile in one environment of AppConfig: a new hosted version, then a deployment of it.

    Source: AppConfig API reference, "StopDeployment" and "StartDeployment". One deployment at a time is under way in an
    environment, and one that bakes is under way. ``StopDeployment`` ends only what is DEPLOYING; with ``AllowRevert``
    also what is BAKING (it becomes ROLLED_BACK) and, for 72 hours, what is COMPLETE (it becomes REVERTED).

    Parameters
    ----------
    client : botocore ``appconfig`` client
    application, environment, profile : str
        Ids or names.
    tighten, loosen : str
        Ids or names of deployment strategies. The one to tighten with must have neither growth nor bake time.
    """

    def __init__(
        self,
        client: Any,
        application: str,
        environment: str,
        profile: str,
        *,
        tighten: str = TIGHTEN,
        loosen: str = LOOSEN,
    ) -> None:
        self._client = client
        self._names = (application, environment, profile)
        self._strategies = {False: tighten, True: loosen}
        self._found: tuple[str, str, str] | None = None
        self._read = functools.lru_cache(maxsize=8)(self._version)

    @property
    def profile(self) -> str:
        """The profile's id."""
        return self._ids()[2]

    def serving(self) -> Serving:
        deployments = self._deployments()
        documents: list[Published] = []
        for entry in deployments:
            if entry["State"] in _UNDONE:
                continue
            documents.append(self._read(int(entry["ConfigurationVersion"])))
            # A deployment that bakes has reached everyone already.
            if entry["State"] in ("COMPLETE", "BAKING"):
                break
        if not documents:
            raise NothingDeployed
        newest = deployments[0]
        return Serving(
            documents=tuple(documents),
            settled=newest["State"] not in _UNDER_WAY,
            undone=str(newest["ConfigurationVersion"]) if newest["State"] in _UNDONE else "",
        )

    def deploy(self, document: dict[str, Any], /, *, gradual: bool, note: str) -> str:
        application, environment, profile = self._ids()
        latest = self._latest()
        flags = parse(document)
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
            raise DeploymentBusy("somebody is publishing at this moment; try again") from None
        version = str(created["VersionNumber"])
        request = {
            "ApplicationId": application,
            "EnvironmentId": environment,
            "DeploymentStrategyId": self._strategy(self._strategies[gradual]),
            "ConfigurationProfileId": profile,
            "ConfigurationVersion": version,
            "Description": note[:1024],
        }
        for is_last in (gradual, True):
            try:
                self._client.start_deployment(**request)
                return version
            except self._client.exceptions.ConflictException:
                if is_last:
                    break
                # What tightens does not wait for a deployment that may be loosening: that one is stopped.
                self._stop_what_runs()
        raise DeploymentBusy("another deployment is under way; wait for its end, then try again")

    def deployed(self, known: Container[str] = ()) -> Iterator[Published]:
        """Yield the documents that were ever deployed here, newest first, but for those of ``known`` versions."""
        for version in dict.fromkeys(str(entry["ConfigurationVersion"]) for entry in self._deployments()):
            if version not in known:
                yield self._read(int(version))

    def _stop_what_runs(self) -> None:
        application, environment, _ = self._ids()
        for entry in self._deployments():
            if entry["State"] in _UNDER_WAY:
                with contextlib.suppress(
                    self._client.exceptions.BadRequestException, self._client.exceptions.ConflictException
                ):
                    self._client.stop_deployment(
                        ApplicationId=application,
                        EnvironmentId=environment,
                        DeploymentNumber=entry["DeploymentNumber"],
                        **({"AllowRevert": True} if entry["State"] == "BAKING" else {}),
                    )

    def _version(self, number: int) -> Published:
        application, _, profile = self._ids()
        answer = self._client.get_hosted_configuration_version(
            ApplicationId=application, ConfigurationProfileId=profile, VersionNumber=number
        )
        document = load(answer["Content"].read())
        return Published(document=document, flags=parse(document), version=str(number))

    def _deployments(self) -> list[dict[str, Any]]:
        """Return the deployments of this environment, newest first."""
        application, environment, _ = self._ids()
        found = self._pages("list_deployments", ApplicationId=application, EnvironmentId=environment)
        return sorted(found, key=lambda entry: -int(entry["DeploymentNumber"]))

    def _latest(self) -> int:
        application, _, profile = self._ids()
        versions = self._pages(
            "list_hosted_configuration_versions", ApplicationId=application, ConfigurationProfileId=profile
        )
        return max((int(entry["VersionNumber"]) for entry in versions), default=0)

    def _ids(self) -> tuple[str, str, str]:
        if self._found is None:
            application = self._id("list_applications", self._names[0])
            self._found = (
                application,
                self._id("list_environments", self._names[1], ApplicationId=application),
                self._id("list_configuration_profiles", self._names[2], ApplicationId=application),
            )
        return self._found

    def _strategy(self, name: str) -> str:
        return self._id("list_deployment_strategies", name)

    def _id(self, listing: str, name: str, **scope: str) -> str:
        for entry in self._pages(listing, **scope):
            if name in (entry["Id"], entry["Name"]):
                return str(entry["Id"])
        if re.fullmatch(r"[a-z0-9]{4,7}", name):
            return name
        raise FlagsError(Fault.FLAGS_UNAVAILABLE, f"AppConfig has nothing called {name!r}")

    def _pages(self, listing: str, **arguments: Any) -> list[dict[str, Any]]:
        pages = self._client.get_paginator(listing).paginate(**arguments)
        return [entry for page in pages for entry in page.get("Items", [])]


def publisher_from(setting: str, clients: Clients) -> FlagPublisher:
    """Return the store of the setting of :func:`~abeyance.moratorium.source.parse_setting`.

    ``clients`` is asked for ``appconfig`` if the setting names a profile.
    """
    place = parse_setting(setting)
    if isinstance(place, Path):
        return FilePublisher(place)
    return AppConfigPublisher(clients("appconfig"), *place)
