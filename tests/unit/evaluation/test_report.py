"""Reports are self-contained and escaped, have the numbers of the JSON, and open in a browser without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from abeyance.evaluation import plots
from abeyance.evaluation.demographics import FmrMatrix, differential
from abeyance.evaluation.intervals import clustered_rate
from abeyance.evaluation.render import data_url, render_html, write_html
from abeyance.evaluation.report import (
    FacePair,
    Plot,
    ReportTable,
    Section,
    StudyReport,
    count,
    encode,
    interval,
    scientific,
)
from abeyance.evaluation.verification import UnmeasurableFmr

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
EVIL = "<script>alert(1)</script> & 'co'"


def example() -> StudyReport:
    rates = [clustered_rate(np.arange(200) < n, np.arange(200)) for n in (20, 60, 1)]
    found = differential("fnmr", ["race"], ["a & b", EVIL, "c"], rates)
    table = FmrMatrix(
        groups=("a & b", EVIL),
        fmr=((1e-4, 0.0), (0.0, None)),
        false_matches=((1, 0), (0, 0)),
        pairs=((10_000, 10), (10, 0)),
    )
    chip = np.full((112, 112, 3), 90, np.uint8)
    return StudyReport(
        "A report",
        EVIL,
        [("99.5 %", EVIL)],
        [
            Section(
                EVIL,
                [EVIL],
                [EVIL],
                [
                    Plot(
                        "det",
                        lambda: plots.det_curve(
                            [0.1, 0.01, 0.001], [0.01, 0.02, 0.5], [("FMR 1e-2", 0.01, 0.02)]
                        ),
                    ),
                    Plot("intervals", lambda: plots.intervals(found, "rate")),
                    Plot("matrix", lambda: plots.heat_map(table, "title")),
                    Plot(
                        "lines",
                        lambda: plots.lines([("one", [0, 1], [2, 3]), ("two", [0, 1], [3, 2])], "x", "y"),
                    ),
                ],
                [ReportTable(EVIL, ["group", "rate"], [[EVIL, interval(r)] for r in rates], EVIL)],
                [FacePair(data_url(chip), data_url(None), EVIL)],
            )
        ],
        [("Model", EVIL)],
    )


def test_a_report_is_self_contained_and_escaped() -> None:
    html = render_html(example(), b'{"a": 1}', NOW)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    # Nothing is loaded: no address but those of names (xmlns) and data.
    loaded = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert loaded
    assert all(address.startswith(("data:", "#")) for address in loaded)
    assert "url(http" not in html
    assert "default-src 'none'" in html


def test_plots_are_well_formed_with_unique_names() -> None:
    html = render_html(example(), b"{}", NOW)
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == 4
    for svg in svgs:
        ElementTree.fromstring(svg)
    names = re.findall(r'\bid="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert all(f'id="{name}"' in html for name in re.findall(r"url\(#([^)]+)\)", html))


def test_json_beside_the_page(tmp_path: Path) -> None:
    result = UnmeasurableFmr(fmr=float("nan"), pairs=np.int64(3), pairs_needed=10)  # type: ignore[arg-type]
    html, beside = write_html(example(), "test", result, tmp_path / "new" / "report.html", NOW)
    assert html.exists()
    assert json.loads(beside.read_text()) == {
        "kind": "test",
        "schema": 2,
        "result": {"fmr": None, "pairs": 3, "pairs_needed": 10},
    }
    assert encode("test", result) == beside.read_bytes()


def test_number_formats() -> None:
    assert scientific(0.001) == "1e-3"
    assert scientific(1.25e-5) in {"1.2e-5", "1.3e-5"}
    assert scientific(0.0123) == "0.012"
    assert scientific(0.0) == "0"
    assert scientific(None) == "–"
    assert count(1234567) == "1\u202f234\u202f567"
    assert interval(clustered_rate(np.zeros(0, bool), np.zeros(0, np.int64))) == "–"


def test_a_browser_without_a_network_opens_it_without_errors(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    html, _ = write_html(
        example(), "test", UnmeasurableFmr(fmr=0.1, pairs=1, pairs_needed=2), tmp_path / "r.html", NOW
    )
    shot = tmp_path / "r.png"
    ran = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1200,1600",
            f"--screenshot={shot}",
            html.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CONSOLE" not in ran.stderr
    from PIL import Image

    colours = Image.open(shot).convert("RGB").getcolors(1 << 20) or []
    assert len(colours) > 50
