"""The templates as they were last reviewed. ``UPDATE_SNAPSHOTS=1 pytest tests/infra`` accepts what is new."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.infra.conftest import Synthesise

SNAPSHOTS = Path(__file__).parent / "snapshots"

IMAGE = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/abeyance-embedder:1"
CHOICES: dict[str, dict[str, str]] = {
    "local": {},
    "sagemaker": {"embedder": "sagemaker", "embedder_image": IMAGE},
    "ecs": {"embedder": "ecs", "embedder_image": IMAGE},
}


@pytest.mark.parametrize("name", CHOICES)
def test_templates_are_as_reviewed(name: str, synthesise: Synthesise) -> None:
    for stack, template in synthesise(**CHOICES[name]).items():
        if name != "local" and stack != "AbeyanceEmbedding":
            continue
        path = SNAPSHOTS / f"{name}-{stack}.json"
        template = {name: part for name, part in template.items() if name not in ("Rules", "Parameters")}
        now = json.dumps(normalised(template), indent=1, sort_keys=True) + "\n"
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.write_text(now)
        assert path.is_file(), "a new stack; accept it with UPDATE_SNAPSHOTS=1"
        assert now == path.read_text(), (
            f"{stack} has changed; look at it, then accept it with UPDATE_SNAPSHOTS=1"
        )


def normalised(value: Any) -> Any:
    """Without what changes when only code does: hashes of assets, and of the API's deployment."""
    if isinstance(value, dict):
        return {normalised(key): normalised(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normalised(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"\b[0-9a-f]{64}\b", "<hash>", value)
        return re.sub(r"(ApiRestDeployment\w{8})[0-9a-f]{32}", r"\1<hash>", value)
    return value
