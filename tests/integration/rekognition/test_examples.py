"""The examples of docs/rekognition.md, run as they stand: the AWS CLI's in a shell, Python's in a fresh interpreter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from abeyance.local.aws import environment
from abeyance.rekognition.wire import SDK_FOLDER

PAGE = (Path(__file__).parents[3] / "docs" / "rekognition.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, photos: Callable[[str], bytes]) -> Path:
    (tmp_path / "face.jpg").write_bytes(photos("obama.jpg"))
    (tmp_path / "other.jpg").write_bytes(photos("obama2.jpg"))
    return tmp_path


def run(api: Any, folder: Path, *command: str, **more: str) -> str:
    variables = {**os.environ, **environment(api.endpoint, "acme"), "AWS_PAGER": "", **more}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("aws"), reason="needs the AWS CLI")
def test_aws_cli(api: Any, folder: Path) -> None:
    shell = "".join(blocks("sh"))
    answers: dict[str, Any] = {}
    for line in shell.strip().splitlines():
        output = run(api, folder, "sh", "-c", line)
        if line.startswith("aws rekognition"):
            answers[line.split()[2]] = json.loads(output) if output.strip() else {}
    assert answers["search-faces-by-image"]["FaceMatches"][0]["Face"]["ExternalImageId"] == "ada"
    assert answers["compare-faces"]["FaceMatches"][0]["Similarity"] > 80
    assert len(answers["detect-faces"]["FaceDetails"]) == 1
    assert len(answers["list-faces"]["Faces"]) == 1


def test_python(api: Any, folder: Path) -> None:
    (program,) = blocks("python")
    output = run(api, folder, sys.executable, "-c", program)
    assert re.fullmatch(r"ada \d+\.\d\n", output)


@pytest.mark.skipif(not shutil.which("aws"), reason="needs the AWS CLI")
def test_aws_cli_learns_our_operations(api: Any, folder: Path) -> None:
    """With the folder of data that the page names; the lab is registered for templates."""
    lab = {"AWS_ACCESS_KEY_ID": "lab", "AWS_DATA_PATH": str(SDK_FOLDER)}
    run(api, folder, "aws", "rekognition", "create-collection", "--collection-id", "cli", **lab)
    image = json.dumps({"S3Object": {"Bucket": "uploads", "Name": put(api, folder)}})
    indexing = ("index-faces", "--collection-id", "cli", "--image", image)
    indexed = json.loads(run(api, folder, "aws", "rekognition", *indexing, **lab))
    face = indexed["FaceRecords"][0]["Face"]["FaceId"]
    arguments = ("--collection-id", "cli", "--face-id", face)
    answer = json.loads(run(api, folder, "aws", "rekognition", "get-face-template", *arguments, **lab))
    assert len(answer["Template"]) == 128
    run(api, folder, "aws", "rekognition", "delete-collection", "--collection-id", "cli", **lab)


def put(api: Any, folder: Path) -> str:
    api.aws.client("s3").put_object(Bucket="uploads", Key="lab/face", Body=(folder / "face.jpg").read_bytes())
    return "lab/face"
