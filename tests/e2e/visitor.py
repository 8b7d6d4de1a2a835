"""A visitor of the deployed console: HTTPS through the emulator's HTTP API, with a session signed like the console's.

The emulator does not have Cognito's pages. The session is therefore made here, with the deployment's own key from
Secrets Manager; everything behind the sign-in is the deployed console.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from tests.e2e.conftest import Deployment

from abeyance.console.roles import Role

_CSRF = "the-same-in-the-session-and-in-the-form"


@dataclass
class Answer:
    """A response: status, headers (the last one of each name, in lower case) and body."""

    status: int
    headers: dict[str, str]
    text: str


class Visitor:
    """A person with roles: ``Visitor(deployment, "ada", Role.REVIEWER)``; without a name, nobody is signed in."""

    def __init__(self, deployment: Deployment, name: str = "", *roles: Role) -> None:
        self._deployment = deployment
        self._host = urlsplit(deployment.outputs["ConsoleUrl"]).netloc
        self._cookie = f"abeyance_console={_session(deployment, name, roles)}" if name else ""

    def get(self, path: str, **headers: str) -> Answer:
        """Request a page; redirects are not followed."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, *, headers: dict[str, str] | None = None, **form: str) -> Answer:
        """Send a form of this session."""
        body = urlencode({"csrf": _CSRF, **form})
        return self._ask(
            "POST", path, body, {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        )

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        emulator = self._deployment.emulator
        context = ssl.create_default_context(cafile=str(emulator.certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", emulator.port, timeout=60, context=context)
        cookie = {"Cookie": self._cookie} if self._cookie else {}
        try:
            connection.request(method, path, body, {"Host": self._host, **cookie, **headers})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()


def _session(deployment: Deployment, name: str, roles: tuple[Role, ...]) -> str:
    secrets = deployment.client("secretsmanager")
    (key,) = [
        found["ARN"]
        for found in secrets.list_secrets()["SecretList"]
        if "sessions" in found.get("Description", "")
    ]
    app = Flask("sessions")
    app.secret_key = secrets.get_secret_value(SecretId=key)["SecretString"].encode()
    serializer: Any = SecureCookieSessionInterface().get_signing_serializer(app)
    person = [f"{name}@people.example", name, [str(role) for role in roles], ""]
    text: str = serializer.dumps({"_permanent": True, "person": person, "csrf": _CSRF})
    return text
