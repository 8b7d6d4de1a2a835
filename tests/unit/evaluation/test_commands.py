"""The commands, end to end, on made-up people: numbers, JSON keys, reports, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from abeyance.cli import _evaluation, attributes, audit, calibrate, evaluate
from abeyance.cli.output import Exit
from abeyance.evaluation.templates import TemplateExtractor
from abeyance.ledger.signatures import good_signers
from abeyance.moratorium.audit_store import read_statement
from abeyance.vision.models.manifest import Manifest

from .people import Colours, OneFace, crowd, photo, population

pytest.importorskip("sklearn")
pytest.importorskip("fairlearn")
app = typer.Typer()
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(audit.app, name="audit")
app.add_typer(attributes.app, name="attributes")
app.add_typer(calibrate.app, name="calibrate")


class ColourModels(_evaluation.LoadedModels):
    """Stand-ins for the models: the template of a photo is its colour."""

    def __init__(self, options: _evaluation.ModelOptions, run: _evaluation.RunOptions) -> None:
        self.entry = msgspec.structs.replace(Manifest.load()[options.model], map=None)
        self.extractor = TemplateExtractor(OneFace(), Colours(), detector_identity="one@0", workers=2)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_evaluation, "LoadedModels", ColourModels)
    monkeypatch.chdir(tmp_path)


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + str(result.exception)
    return result.stdout


def result_of(*arguments: object, code: int = 0) -> Any:
    answer = json.loads(run(*arguments, "--json", code=code))
    assert answer["schema"] == 2
    return answer["result"]


def test_verification_of_people_with_two_photos(tmp_path: Path) -> None:
    table = population(tmp_path, 60)
    found = result_of("evaluate", "verification", "--photos", table, "--html", tmp_path / "r.html")
    assert (found["people"], found["mated_pairs"], found["non_mated_pairs"]) == (60, 60, 120 * 119 // 2 - 60)
    assert [point["fmr"] for point in found["operating"]] == [0.01, 0.001]
    assert [point["fmr"] for point in found["unmeasurable"]] == [1e-4, 1e-5, 1e-6]
    assert json.loads((tmp_path / "r.json").read_text())["result"] == found
    assert "FNMR at FMR" in run("evaluate", "verification", "--photos", table)


def test_verification_against_strangers(tmp_path: Path) -> None:
    table, faces = population(tmp_path / "a", 20), crowd(tmp_path / "b", 50, first=100)
    found = result_of("evaluate", "verification", "--photos", table, "--strangers", faces)
    assert found["non_mated_pairs"] == 40 * 50
    assert found["operating"][0]["threshold_low"] <= found["operating"][0]["threshold_high"]


def test_verification_over_pairs(tmp_path: Path) -> None:
    rows = []
    for person in range(40):
        for number in (1, 2):
            photo(tmp_path / "images" / f"p{person}" / f"{number}.png", person, number, person % 4 + 1)
        rows += [
            [f"p{person}/1.png", f"p{person}/2.png", 1],
            [f"p{person}/1.png", f"p{(person + 7) % 40}/1.png", 0],
        ]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image_a", "image_b", "same"], *rows])
    found = result_of("evaluate", "verification", "--pairs", tmp_path / "pairs.csv")
    assert len(found["accuracy"]["folds"]) == 10
    assert found["accuracy"]["mean"] > 0.8
    # Folders say who is who, so all photos are compared with all.
    assert found["non_mated_pairs"] == 80 * 79 // 2 - 40
    run(
        "evaluate",
        "verification",
        "--pairs",
        tmp_path / "pairs.csv",
        "--least-accuracy",
        "1.0",
        code=Exit.OK if found["accuracy"]["mean"] == 1 else Exit.NO,
    )


def test_pairs_whose_folders_do_not_say_who_is_who(tmp_path: Path) -> None:
    rows = []
    for person in range(60):
        for number in (1, 2):
            photo(tmp_path / "images" / f"{person}-{number}.png", person, number, person % 4 + 1)
        rows += [
            [f"{person}-1.png", f"{person}-2.png", 1],
            [f"{person}-1.png", f"{(person + 9) % 60}-1.png", 0],
        ]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image_a", "image_b", "same"], *rows])
    found = result_of("evaluate", "verification", "--pairs", tmp_path / "pairs.csv")
    assert (found["mated_pairs"], found["non_mated_pairs"], found["people"]) == (60, 60, 0)
    assert found["accuracy"]["mean"] > 0.8


def test_identification(tmp_path: Path) -> None:
    table, faces = population(tmp_path / "a", 40), crowd(tmp_path / "b", 60, first=100)
    more = crowd(tmp_path / "c", 30, first=170)
    found = result_of(
        "evaluate", "identification", "--photos", table, "--unknown", faces, "--distractors", more
    )["result"]
    assert (found["gallery_people"], found["mated_probes"], found["non_mated_probes"]) == (70, 40, 60)
    assert found["ranks"][0]["rate"]["value"] > 0.8
    assert [o["fpir"] for o in found["open_set"]] == [0.1]
    assert found["unmeasurable"] == [0.01, 0.001]
    run("evaluate", "identification", "--photos", table, "--html", tmp_path / "r.html")
    assert "at rank 1" in (tmp_path / "r.html").read_text()


def test_detection(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        photo(tmp_path / "images" / f"{number}.png", number, 1, 1)
    (tmp_path / "boxes.csv").write_text(
        "image,x,y,width,height\n1.png,28,28,56,56\n2.png,0,0,10,10\n2.png,60,60,50,50\n3.png,,,,\n"
    )
    found = result_of(
        "evaluate", "detection", "--boxes", tmp_path / "boxes.csv", "--html", tmp_path / "r.html"
    )
    assert (found["result"]["recall"]["count"], found["result"]["recall"]["trials"]) == (1, 2)
    assert found["result"]["false_positives"] == 2
    assert "Recall" in run("evaluate", "detection", "--boxes", tmp_path / "boxes.csv")


def test_throughput(tmp_path: Path) -> None:
    found = result_of("evaluate", "throughput", "--photos", population(tmp_path, 5), "--count", "4")
    assert found["photos"] == 4
    assert found["photos_per_second"] > 0


def test_calibration_gives_a_block_for_the_manifest(tmp_path: Path) -> None:
    table, faces = population(tmp_path / "a", 30), crowd(tmp_path / "b", 200, first=40)
    arguments = (
        "calibrate",
        "--strangers",
        faces,
        "--mated",
        table,
        "--anchor",
        "60=0.05",
        "--anchor",
        "80=0.01",
    )
    found = result_of(
        *arguments, "--out", tmp_path / "block.json", "--html", tmp_path / "r.html", "--same-person", 0
    )
    block = json.loads((tmp_path / "block.json").read_text())
    assert set(block) == {"knots", "provenance"}
    assert block["knots"] == found["knots"]
    assert [knot[1] for knot in block["knots"]] == [0, 60, 80, 100]
    assert [a["similarity"] for a in found["anchors"]] == [60, 80]
    assert "The scale" in run(*arguments, "--same-person", 0)
    run("calibrate", "--strangers", faces, code=Exit.NO)
    run("calibrate", "--strangers", faces, "--anchor", "80", code=Exit.USAGE)
    run("calibrate", "--strangers", faces, "--only", "age=99", code=Exit.USAGE)
    run("calibrate", "--strangers", faces, "--by", "height", code=Exit.USAGE)


def test_pairs_to_judge_and_a_judged_list(tmp_path: Path) -> None:
    faces = crowd(tmp_path, 60)
    # One person twice, under another number.
    photo(tmp_path / "images" / "7.png", 3, 2, 4)
    out = tmp_path / "pairs.csv"
    arguments = ("calibrate", "repeats", "--strangers", faces, "--out", out, "--level", 0.6)
    found = result_of(*arguments, "--html", tmp_path / "r.html")
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == len(found["pairs"])
    assert {rows[0]["image_a"], rows[0]["image_b"]} == {"3.png", "7.png"}
    assert (tmp_path / "r.html").read_text().count("data:image/jpeg") == 2 * len(rows)
    out.write_text("image_a,image_b,same\n3.png,7.png,1\n3.png,8.png,0\n")
    scale = ("calibrate", "--strangers", faces, "--anchor", "60=0.05", "--by", "race")
    cleaned = result_of(*scale, "--repeats", out)
    assert cleaned["cleaning"]["photos_left_out"] == 1
    assert "judged list" in run(*scale, "--repeats", out)
    run(*scale, "--repeats", tmp_path / "none.csv", code=Exit.USAGE)
    run("calibrate", "repeats", "--out", out, code=Exit.USAGE)


def test_a_map_is_fitted_to_one_half_and_measured_on_the_other(tmp_path: Path) -> None:
    faces = [crowd(tmp_path / f"{n}", 250, first=0) for n in range(3)]
    table = population(tmp_path / "a", 40)
    out = tmp_path / "map.json"
    arguments = ("--mated", table, "--anchor", "60=0.05", "--out", out, "--terms", "CC BY 4.0")
    strangers = [word for one in faces for word in ("--strangers", one)]
    found = result_of("calibrate", "map", *strangers, *arguments)
    assert found["people"] == 750
    assert [len(found[key]) for key in ("without", "with_map")] == [1, 1]
    fitted = json.loads(out.read_text())
    assert "CC BY 4.0" in fitted["provenance"]
    assert len(fitted["mean"]) == 32
    run("calibrate", "map", "--strangers", faces[0], code=Exit.NO)


def test_audit(tmp_path: Path) -> None:
    table, faces = population(tmp_path / "a", 40), crowd(tmp_path / "b", 200, first=50)
    (tmp_path / "b" / "said.csv").write_text(
        "image,gender\n" + "\n".join(f"{n}.png,{'m' if n % 5 else 'f'}" for n in range(50, 250)) + "\n"
    )
    arguments = (
        *("audit", "demographics", "--strangers", faces, "--mated", table, "--same-person", 0),
        *("--similarity", 40, "--predictions", tmp_path / "b" / "said.csv"),
    )
    found = result_of(*arguments, "--html", tmp_path / "r.html")
    assert [tuple(g) for g in found["groupings"]] == [
        *(("race",), ("gender",), ("age",), ("race", "gender"), ("race", "gender", "age"))
    ]
    at = found["thresholds"][0]
    assert len(at["false_matches"]) == 5
    # The mated people have no age, so they count in three groupings.
    assert len(at["false_non_matches"]) == 3
    by_race = at["false_matches"][0]
    assert sum(row["rate"]["trials"] for row in by_race["groups"]) == 2 * (100 * 99 // 2)
    assert by_race["verdict"] in {"differs", "no difference found"}
    assert at["combined"][0]["groups"] == ["blue", "red"]
    assert found["attribute_accuracy"][0]["attribute"] == "gender"
    assert "Bias audit" in (tmp_path / "r.html").read_text()
    run(*arguments, "--max-ratio", 1.0001, code=Exit.NO)
    key, statement = tmp_path / "audit.key", tmp_path / "audit.txt"
    public = json.loads(run("audit", "keygen", "--name", "lab.example", "--out", key, "--json"))["key"]
    run(*arguments, "--sign", key, code=Exit.USAGE)
    said = run(*arguments, "--sign", key, "--statement", statement)
    assert "pairs of" in " ".join(said.split())
    note = statement.read_text()
    assert good_signers(note, [public]) == (public,)
    assert good_signers(note.replace(found["model"], "other"), [public]) == ()
    stated = read_statement(note)
    assert (stated.model, [one.similarity for one in stated.thresholds]) == (found["model"], [40.0])
    strict = ("--similarity", 80, "--same-person", 0, "--least-errors", 100_000)
    small = result_of("audit", "demographics", "--strangers", faces, *strict)
    assert small["thresholds"][0]["false_matches"][0]["verdict"] == "too few"


def test_groups_by_other_names(tmp_path: Path) -> None:
    table, faces = population(tmp_path / "a", 20), crowd(tmp_path / "b", 40, first=50)
    found = result_of(
        *("audit", "demographics", "--strangers", faces, "--mated", table, "--by", "race"),
        *("--rename", "red=Rouge", "--same-person", 0, "--similarity", 50),
    )
    assert [row["group"] for row in found["thresholds"][0]["false_matches"][0]["groups"]] == ["Rouge", "blue"]


def test_legislators(tmp_path: Path) -> None:
    table, faces = population(tmp_path / "a", 20), crowd(tmp_path / "b", 40, first=50)
    arguments = ("audit", "legislators", "--probes", table, "--gallery", faces)
    found = result_of(*arguments, "--similarity", 30, "--html", tmp_path / "r.html")
    assert (found["probes"], found["gallery"], found["comparisons"]) == (20, 40, 800)
    assert [at["similarity"] for at in found["thresholds"]] == [30, 80, 99]
    assert found["published"][0]["falsely_matched"] == 28
    assert found["moratorium"]["permitted"] is False
    assert found["false_matches"]
    # Faces are in a report only if somebody asked for them.
    assert "data:image/jpeg" not in (tmp_path / "r.html").read_text()
    run(*arguments, "--similarity", 30, "--html", tmp_path / "r.html", "--pictures")
    assert "data:image/jpeg" in (tmp_path / "r.html").read_text()
    assert "28 of 535" in run(*arguments, "--column", "photo_b")
    run(*arguments, "--column", "photo_z", code=Exit.USAGE)
    # An official who is in the gallery as well is no stranger.
    same = found["false_matches"][0]
    listed = tmp_path / "same.csv"
    listed.write_text(f"image_a,image_b,same\n{same['probe_image']},{same['candidate_image']},1\n")
    cleaned = result_of(*arguments, "--similarity", 30, "--repeats", listed, "--repeats", "fairface")
    assert (cleaned["gallery"], cleaned["left_out"]) == (39, 1)
    assert len(cleaned["false_matches"]) < len(found["false_matches"])


@pytest.mark.parametrize("similarity", [-1, 100.5, 200])
def test_a_similarity_outside_the_scale_is_refused(tmp_path: Path, similarity: float) -> None:
    table, faces = population(tmp_path / "a", 4), crowd(tmp_path / "b", 4, first=50)
    legislators = ("audit", "legislators", "--probes", table, "--gallery", faces)
    demographics = ("audit", "demographics", "--strangers", faces)
    for command in (legislators, demographics):
        run(*command, "--similarity", similarity, code=Exit.USAGE)


def test_a_table_without_labels_is_refused_before_any_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_models(*_: object) -> None:
        raise AssertionError("models ran")

    monkeypatch.setattr(attributes, "_run_models", run_models)
    photo(tmp_path / "1.png", 1, 1, 1)
    (tmp_path / "bare.csv").write_text("image\n1.png\n")
    run("attributes", "evaluate", "--data", tmp_path / "bare.csv", code=Exit.USAGE)


def test_the_terminal_shows_what_the_html_report_shows(tmp_path: Path) -> None:
    faces = crowd(tmp_path, 60, first=50)
    arguments = ("audit", "demographics", "--strangers", faces, "--same-person", 0, "--similarity", 80)
    text = " ".join(run(*arguments, "--html", tmp_path / "r.html").split())
    html = (tmp_path / "r.html").read_text()
    for shown in (
        "Bias audit: error rates by group",
        "No verdict: it takes two groups",
        "Left out as repeated people",
    ):
        assert shown in text
        assert shown in html


def test_wrong_command_lines(tmp_path: Path) -> None:
    run("evaluate", "verification", code=Exit.USAGE)
    run("evaluate", "verification", "--photos", tmp_path / "nothing.csv", code=Exit.USAGE)
    run("evaluate", "detection", "--boxes", tmp_path / "nothing.csv", code=Exit.USAGE)
    alone = tmp_path / "alone"
    photo(alone / "a" / "1.png", 1, 1, 1)
    run("evaluate", "verification", "--photos", alone, code=Exit.USAGE)


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "verification"),
        ("evaluate", "identification"),
        ("audit", "demographics"),
        ("audit", "legislators"),
        ("calibrate",),
    ],
)
def test_commands_share_the_options_of_models_and_output(command: tuple[str, ...]) -> None:
    root = typer.main.get_command(app)
    for name in command:
        root = root.commands[name]  # type: ignore[attr-defined]
    options = {option.name for option in root.params}
    assert {"model", "models", "detector", "confidence", "workers", "cache", "html", "as_json"} <= options
