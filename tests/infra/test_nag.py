"""cdk-nag finds nothing that is not acknowledged where the deployment names its region, account and buckets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_finding_is_acknowledged(tmp_path: Path) -> None:
    pytest.importorskip("aws_cdk", reason="pip install 'abeyance[infra]'")
    from infra import nodejs

    nodejs.use()
    from aws_cdk import App, Validations
    from cdk_nag import AwsSolutionsChecks
    from infra.app import build

    from infra import nag

    places = "door-photos/entrance/ gates"
    named = {"region": "eu-central-1", "account": "111122223333"}
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = App(
        outdir=str(tmp_path),
        analytics_reporting=False,
        context={**context, "aws:cdk:bundling-stacks": [], "tenant_buckets": places, **named},
    )
    build(app)
    nag.acknowledge(app, places)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    # An error that is not acknowledged fails the synthesis.
    app.synth()
