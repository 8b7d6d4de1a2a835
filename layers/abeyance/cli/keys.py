"""``abeyance tenants keys``: access keys with which any AWS SDK signs as a tenant."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from abeyance.cli import _context as context
from abeyance.cli.output import Commands, Exit, Json, console, fail, report, table

app = typer.Typer(
    name="keys",
    cls=Commands,
    no_args_is_help=True,
    help="Make, list, rotate and revoke access keys for AWS SDKs.",
)

TenantId = Annotated[str, typer.Argument(help="The tenant's id.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, which begins with ABEY.")]


@app.command()
def create(tenant: TenantId, as_json: Json = False) -> None:
    """Make a key and show its secret, once. Another person approves it with ``abeyance moratoria approve``."""
    from abeyance.cli.moratoria import show_submitted

    key, proposal = context.changes().create_key(tenant)

    def show() -> None:
        console.print(f"AWS_ACCESS_KEY_ID={key.id}", highlight=False, soft_wrap=True)
        console.print(f"AWS_SECRET_ACCESS_KEY={key.secret}", highlight=False, soft_wrap=True, markup=False)
        console.print("Keep the secret: nobody can show it again.", highlight=False)
        console.print("It is active when another person has approved it.", highlight=False)
        show_submitted(proposal, as_json=False)

    answer = {"key": key.id, "secret": key.secret, "proposal": msgspec.to_builtins(proposal)}
    report(answer, as_json=as_json, show=show)


@app.command()
def rotate(tenant: TenantId, as_json: Json = False) -> None:
    """Make a second key; when your programs use it, revoke the first one."""
    if not _keys(tenant):
        fail(f"{tenant} has no key; make one with: abeyance tenants keys create {tenant}", Exit.USAGE)
    create(tenant, as_json)


@app.command("list")
def list_keys(tenant: TenantId, as_json: Json = False) -> None:
    """List the active keys of a tenant, without their secrets."""
    found = _keys(tenant)
    report(list(found), as_json=as_json, show=lambda: console.print(_table(found)))


@app.command()
def revoke(tenant: TenantId, key: KeyId, as_json: Json = False) -> None:
    """Revoke a key: from the next request on, it is nobody's."""
    from abeyance.cli.tenants import known, submit

    registered = known(tenant)
    if key not in _keys(tenant):
        fail(f"{key} is no active key of {tenant}", Exit.NO)
    left = tuple(principal for principal in registered.principals if principal != key)
    submit(msgspec.structs.replace(registered, principals=left), as_json)


def _keys(tenant: str) -> tuple[str, ...]:
    from abeyance.cli.tenants import known
    from abeyance.moratorium.access_keys import keys_of

    return keys_of(known(tenant))


def _table(found: tuple[str, ...]) -> object:
    return table("Active keys", ("id",), ([key] for key in found), key=True)
