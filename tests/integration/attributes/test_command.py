"""``abeyance attributes``: the accuracy card from labelled photos, and the photos to measure on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from abeyance.cli.attributes import app
from abeyance.local.samples import fetch_samples
from abeyance.vision.errors import PackageUnavailable
from abeyance.vision.models.manifest import Manifest, ModelRole
from abeyance.vision.models.store import fetch


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of three photos of people whose published age and gender are known."""
    try:
        fetch([e for e in Manifest.load().entries.values() if e.role is not ModelRole.EMBEDDER])
        files = {**fetch_samples("astronaut"), **fetch_samples("white-house-portraits")}
    except PackageUnavailable as error:
        pytest.skip(str(error))
    path = tmp_path_factory.mktemp("table") / "people.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "gender", "age", "smile"])
        rows.writerow([files["astronaut.png"], "Female", "30-39", "true"])
        rows.writerow([files["obama.jpg"], "Male", "40-49", "true"])
        rows.writerow([files["biden.jpg"], "Male", "60-69", "true or not"])
    return path


def test_the_card_is_written_with_its_numbers_and_its_diagram(table: Path, tmp_path: Path) -> None:
    card, said = tmp_path / "docs" / "card.md", tmp_path / "said.csv"
    arguments = [
        "--data",
        str(table),
        "--card",
        str(card),
        "--predictions",
        str(said),
        "--no-cache",
        "--json",
    ]
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == 0, result.output
    numbers = json.loads(card.with_suffix(".json").read_text())
    assert numbers == json.loads(result.stdout)
    attributes = {one["attribute"]: one for one in numbers["measured"]}
    assert set(attributes) == {"gender", "age", "age, exact", "smile"}
    assert attributes["gender"]["overall"]["count"] == 3
    assert attributes["age"]["overall"]["trials"] == 3
    assert attributes["smile"]["overall"]["trials"] == 2
    assert "must not be used" in card.read_text()
    assert card.with_suffix(".svg").read_text().startswith("<svg")
    with said.open() as file:
        assert [row["gender"] for row in csv.DictReader(file)] == ["Female", "Male", "Male"]


def test_a_table_without_labels_is_refused(table: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.csv"
    with table.open() as file:
        path.write_text("image\n" + "\n".join(row["image"] for row in csv.DictReader(file)) + "\n")
    result = CliRunner().invoke(app, ["evaluate", "--data", str(path), "--no-cache"])
    assert result.exit_code == 2
    assert "gender, age, expression, smile, mouth_open or eyes_open" in result.output


def test_too_few_photos_calibrate_nothing(table: Path) -> None:
    result = CliRunner().invoke(app, ["calibrate", "--data", str(table), "--no-cache"])
    assert result.exit_code == 1
    assert "too few labelled photos" in result.output.replace("\n", " ")


@pytest.mark.slow
def test_gender_and_age_are_as_good_as_the_card_says(data_folder: Path) -> None:
    table = data_folder / "fairface" / "faces.csv"
    if not table.is_file():
        pytest.skip("needs fairface/faces.csv in the folder of --data")
    result = CliRunner().invoke(app, ["evaluate", "--data", str(table), "--json"])
    assert result.exit_code == 0, result.output
    gender, age, _ = json.loads(result.stdout)["measured"]
    assert gender["overall"]["value"] >= 0.85
    assert age["overall"]["value"] >= 0.83
    assert gender["calibration"]["error"] < 0.03
    assert age["calibration"]["error"] < 0.03
    assert gender["calibration"]["at_least_90"]["low"] >= 0.9
    assert {"race", "gender", "age"} == set(gender["by"]) == set(age["by"])
