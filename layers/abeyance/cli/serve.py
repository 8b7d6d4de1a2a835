"""``abeyance serve``: the whole system at one local URL."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from abeyance.cli._context import flags as load_flags
from abeyance.cli._context import settings
from abeyance.cli.output import Exit, console, fail

#: Time between two lines about photos that wait.
BACKLOG_INTERVAL_S = 10.0

HINT = """
  export AWS_ENDPOINT_URL={endpoint} AWS_ACCESS_KEY_ID=acme AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1
  aws s3 cp face.jpg s3://uploads/acme/index/staff/
  aws s3 cp other.jpg s3://uploads/acme/search/staff/
  aws s3 cp s3://results/acme/search/staff/other.jpg.json -
"""


def serve(
    port: Annotated[int, typer.Option(help="Listen on this port of 127.0.0.1; 0 takes a free one.")] = 4566,
    flags: Annotated[
        Path | None,
        typer.Option(help="Obey this flags document; created with the police halt on if it is missing."),
    ] = None,
    public: Annotated[
        Path | None,
        typer.Option(
            help="Show the certificates of this folder at /public/, beside the page of what is in force."
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            help="Let web pages of this origin call the Rekognition API, such as http://localhost:3000; repeat it."
        ),
    ] = None,
) -> None:
    """Serve S3, SQS, DynamoDB and EventBridge at one local URL, with every function behind it.

    It prints the commands for the AWS CLI in another terminal. Everything is in memory and lost when it stops.
    """
    from abeyance.cli.models import make_ready
    from abeyance.local.backlog import Backlog
    from abeyance.local.gateway import mount_console
    from abeyance.local.public import mount_public
    from abeyance.local.system import LocalSystem
    from abeyance.local.tenants import TENANTS, register
    from abeyance.rekognition.cors import parse_origins
    from abeyance.vision.models.manifest import Manifest

    known = settings()
    try:
        origins = " ".join(sorted(parse_origins(" ".join([known.cors_origins, *(cors or ())]))))
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    known = known.replace(cors_origins=origins)
    if flags and flags.exists():
        # Stages would deny everything for flags that they cannot read; say so here.
        load_flags(flags)
    make_ready(list(Manifest.load().entries.values()), known.models)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        system = LocalSystem(known, port, flags=flags)
    except (OSError, OverflowError):
        fail(f"cannot serve on port {port}: it is taken or not a port. Name another with --port.")
    with contextlib.ExitStack() as running:
        with console.status("Starting the functions …"):
            running.enter_context(system)
            register(system, TENANTS)
            system.services.append(mount_console(system.aws, system.sign_in_key))
            mount_public(system, public or system.flags.parent / "public")
            system.watch_flags()
        console.print(f"[bold green]Abeyance is at {system.endpoint}[/]  (stop with Ctrl-C)", highlight=False)
        console.print(HINT.format(endpoint=system.endpoint), highlight=False, soft_wrap=True)
        console.print(f"Console: {system.endpoint}/console", highlight=False)
        console.print(f"Public page: {system.endpoint}/public/", highlight=False)
        console.print(f"Flags: {system.flags}", highlight=False, soft_wrap=True)
        console.print(
            "Sign-ins are made up here: whoever reaches this port can be anybody. clara and david change moratoria.",
            highlight=False,
            soft_wrap=True,
        )
        backlog = Backlog()
        while not stop.wait(BACKLOG_INTERVAL_S):
            system.watch_flags()
            if line := backlog.observe(time.monotonic(), *system.photos()):
                console.print(line, highlight=False)
        left = {name: number for name, number in system.waiting().items() if number}
    console.print("Stopped. " + (f"Still waiting: {left}" if left else "Nothing was waiting in any queue."))
