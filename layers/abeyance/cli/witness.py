"""``abeyance witness``: run a witness of transparency logs, on a machine that no log's operator has a hand on."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abeyance.cli.output import Commands, Exit, Json, console, existing_file, fail, report, table

if TYPE_CHECKING:
    from abeyance.ledger.signatures import VerifierKey
    from abeyance.ledger.witness_server import CheckpointWitness

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Witness a log: sign only what extends what was seen, so that nobody can show two histories of it.",
)

State = Annotated[Path, typer.Option("--state", help="SQLite file with the last checkpoint of every log.")]


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(help="The witness's name, such as example.com/witness.")],
    out: Annotated[Path, typer.Option(help="File for the private key; must not exist.")] = Path(
        "witness.key"
    ),
    as_json: Json = False,
) -> None:
    """Make the private key of a witness, and print the public key to hand out."""
    from abeyance.cli._ledger import make_key
    from abeyance.ledger.signatures import COSIGN

    make_key(name, out, COSIGN, as_json)


@app.command()
def serve(
    key: Annotated[Path, existing_file("--key", help="Private key, from: abeyance witness keygen")],
    log: Annotated[
        list[str],
        typer.Option(
            "--log", help="Public key of a log to witness, from: abeyance ledger key; or a file, one a line."
        ),
    ],
    state: State = Path("witness.db"),
    host: Annotated[str, typer.Option(help="Listen at this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Listen on this port; 0 takes a free one.")] = 8417,
) -> None:
    """Serve add-checkpoint of C2SP tlog-witness, until Ctrl-C.

    Keep the state like the key: whoever sets it back makes the witness forget. Put TLS in front of it, or a bastion.
    """
    from abeyance.ledger.signatures import parse_signer
    from abeyance.ledger.witness_server import CheckpointWitness, WitnessMemory

    memory = WitnessMemory(state)
    witness = CheckpointWitness(parse_signer(key.read_text()), _logs(log), memory, lambda: datetime.now(UTC))
    try:
        _serve(witness, host, port)
    finally:
        memory.close()


@app.command()
def evidence(state: State = Path("witness.db"), as_json: Json = False) -> None:
    """List checkpoints that a log signed and that contradict what it signed before. Exit with 1 if there are any."""
    from abeyance.ledger.witness_server import WitnessMemory

    if not state.is_file():
        fail(f"there is no file {state}; name the witness's with --state", Exit.USAGE)
    memory = WitnessMemory(state)
    found = memory.evidence()
    memory.close()
    columns = ("at", "origin", "why", "note")
    rows = [[one[name] for name in columns] for one in found]
    report(
        {"evidence": found},
        as_json=as_json,
        show=lambda: console.print(table(f"{len(found)} contradictions", columns, rows)),
    )
    raise typer.Exit(Exit.NO if found else Exit.OK)


def _logs(texts: list[str]) -> list[VerifierKey]:
    from abeyance.ledger.signatures import SIGN, parse_verifier

    keys = []
    for text in texts:
        lines = Path(text).read_text().split("\n") if Path(text).is_file() else [text]
        keys += [parse_verifier(line) for line in lines if line.strip()]
    if not keys or any(key.algorithm != SIGN for key in keys):
        fail("--log takes the public key of a log, as abeyance ledger key prints it", Exit.USAGE)
    return keys


def _serve(witness: CheckpointWitness, host: str, port: int) -> None:
    try:
        from cheroot.wsgi import Server
    except ImportError:
        fail("serving needs one more package: pip install 'abeyance[witness]'")
    server = Server((host, port), witness.wsgi, numthreads=4, request_queue_size=64, timeout=10)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        server.prepare()
        place = f"http://{server.bind_addr[0]}:{server.bind_addr[1]}"
        console.print(f"The witness is at {place}  (stop with Ctrl-C)", highlight=False)
        server.serve()
    except OSError as error:
        fail(f"cannot listen at {host}:{port}: {error.strerror or error}")
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
