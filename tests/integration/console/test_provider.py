"""Sign-in through a certified provider, the npm package oidc-provider, over TLS on 127.0.0.1."""

from __future__ import annotations

import datetime
import http.cookiejar
import ipaddress
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.test import Client, TestResponse

from abeyance.console.errors import ConsoleError, RequestRefused, Unavailable
from abeyance.console.oidc import OpenIdConnect
from abeyance.console.roles import Role
from abeyance.console.web.app import create_app

from .conftest import World, deployed

PACKAGE = "oidc-provider@9.13.3"
CONSOLE = "https://faces.example/console"


class CertifiedProvider:
    """The running provider, and a browser that signs in there."""

    def __init__(self, issuer: str, certificate: Path) -> None:
        self.issuer = issuer
        self.context = ssl.create_default_context(cafile=str(certificate))

    def client(self, client_id: str = "confidential") -> OpenIdConnect:
        """Return the console's side of the sign-in."""
        secret = "shh" if client_id == "confidential" else ""
        return OpenIdConnect(
            self.issuer, client_id, CONSOLE, client_secret=lambda: secret, context=self.context
        )

    def visit(self, address: str, login: str) -> dict[str, str]:
        """Sign in and consent, or abort without a login; return the query with which the browser comes back."""
        stop = _StopAtConsole()
        opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
            urllib.request.HTTPSHandler(context=self.context),
            stop,
        )
        data: bytes | None = None
        for _ in range(5):
            try:
                with opener.open(address, data, timeout=20) as answer:
                    page, here = answer.read().decode(), answer.url
            except urllib.error.HTTPError:
                if not stop.reached:
                    raise
                return dict(parse_qsl(urlsplit(stop.reached).query))
            if not login:
                address, data = f"{here}/abort", None
                continue
            (action,) = re.findall(r'action="([^"]+)"', page)
            (prompt,) = re.findall(r'name="prompt" value="([^"]+)"', page)
            form = {"prompt": prompt, "login": login, "password": "any"}
            address, data = urljoin(here, action), urlencode(form).encode()
        raise AssertionError("the provider does not send the browser back")

    def rotate(self) -> None:
        """Replace the provider's signing key."""
        urllib.request.urlopen(f"{self.issuer}/rotate", context=self.context, timeout=20).close()


class _StopAtConsole(urllib.request.HTTPRedirectHandler):
    reached = ""

    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        if given[-1].startswith(CONSOLE):
            self.reached = given[-1]
            return None
        return super().redirect_request(*given)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertifiedProvider]:
    """Install and start the provider; skip where there is no node or npm, or npm cannot install it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are missing: apt-get install nodejs npm")
    folder = tmp_path_factory.mktemp("provider")
    command = [
        npm,
        "install",
        "--prefix",
        str(folder),
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        PACKAGE,
    ]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if installed.returncode:
        pytest.skip(f"npm cannot install {PACKAGE}: {installed.stderr.strip()[-300:]}")
    key, certificate = _certificate(folder)
    script = shutil.copy(Path(__file__).with_name("provider.mjs"), folder)
    arguments = [node, script, str(key), str(certificate), f"{CONSOLE}/signin/callback"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            issuer = next(line for line in process.stdout if line.startswith("https://127.0.0.1:"))
            yield CertifiedProvider(issuer.strip(), certificate)
        finally:
            process.terminate()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Write a key and its self-signed certificate for 127.0.0.1."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


def test_a_person_signs_in_at_the_console(provider: CertifiedProvider, world: World) -> None:
    app = create_app(msgspec.structs.replace(world.services, identity=provider.client()))
    browser = Client(deployed(app), use_cookies=True)

    def get(path: str) -> TestResponse:
        return browser.get(
            f"/console{path}", base_url="https://faces.example", headers={"Host": "faces.example"}
        )

    assert get("/").location == "/console/signin"
    assert "Sign in</a>" in get("/signin").text
    returned = urlencode(provider.visit(get("/signin/provider").location, "edda"))
    assert get(f"/signin/callback?{returned}").location == "/console"
    ledger = get("/ledger")
    assert ledger.status_code == 200
    assert "<span>Edda</span>" in ledger.text
    assert "max-age" in ledger.headers["Strict-Transport-Security"]
    (cookie,) = browser._cookies.values()  # type: ignore[union-attr]
    assert cookie.secure
    assert get("/proposals/new").status_code == 403
    assert get(f"/signin/callback?{returned}").status_code == 409, "a callback counts once"
    picked = browser.post("/console/signin", base_url="https://faces.example", data={"person": "edda@local"})
    assert picked.status_code in (403, 409)


@pytest.mark.parametrize("client_id", ["confidential", "public"])
def test_the_principal_is_the_subject_at_the_provider(provider: CertifiedProvider, client_id: str) -> None:
    identity = provider.client(client_id)
    address, remembered = identity.begin()
    person = identity.finish(provider.visit(address, "edda"), remembered)
    assert (person.name, person.roles) == ("Edda", (Role.AUDITOR,))
    assert person.principal == f"edda@{urlsplit(provider.issuer).netloc}"


def test_a_code_is_used_once_and_with_its_own_verifier_and_nonce(provider: CertifiedProvider) -> None:
    identity = provider.client()
    address, remembered = identity.begin()
    returned = provider.visit(address, "edda")
    assert identity.finish(returned, remembered)
    with pytest.raises(ConsoleError):
        identity.finish(returned, remembered)
    for changed in ("verifier", "nonce", "state"):
        address, remembered = identity.begin()
        returned = provider.visit(address, "edda")
        with pytest.raises(ConsoleError):
            identity.finish(returned, {**remembered, changed: "x" * 43})


def test_a_new_signing_key_is_accepted_at_once(provider: CertifiedProvider) -> None:
    identity = provider.client()
    for _ in range(2):
        address, remembered = identity.begin()
        assert identity.finish(provider.visit(address, "edda"), remembered)
        provider.rotate()


@pytest.mark.parametrize("login", ["mallory", ""])
def test_a_person_without_a_role_or_consent_is_refused(provider: CertifiedProvider, login: str) -> None:
    identity = provider.client()
    address, remembered = identity.begin()
    with pytest.raises(RequestRefused, match="no role" if login else "did not let you in"):
        identity.finish(provider.visit(address, login), remembered)


def test_a_provider_with_an_untrusted_certificate_is_not_used(provider: CertifiedProvider) -> None:
    with pytest.raises(Unavailable):
        OpenIdConnect(provider.issuer, "public", CONSOLE).begin()
