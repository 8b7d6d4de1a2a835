"""Print the deployment's settings for a shell: ``eval "$(python -m infra.outputs)"``."""

from __future__ import annotations

import json
import shlex
import sys

import boto3

from infra.config import Config


def main() -> None:
    """Print an ``export`` for each setting of the deployed system; the argument is the deployment's name."""
    name = sys.argv[1] if len(sys.argv) > 1 else Config().name
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName=f"{name.capitalize()}Flow")["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    settings = json.loads(outputs["Environment"])
    # A path inside the functions.
    settings.pop("ABEYANCE_MODELS", None)
    for key, value in settings.items():
        print(f"export {key}={shlex.quote(value)}")  # noqa: T201
    for key in (
        "RekognitionUrl",
        "ChangesUrl",
        "ConsoleUrl",
        "ConsoleUserPool",
        "TightenStrategy",
        "LoosenStrategy",
    ):
        if key in outputs:
            print(f"# {key}: {outputs[key]}")  # noqa: T201


if __name__ == "__main__":
    main()
