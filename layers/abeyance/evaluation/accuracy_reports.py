"""Reports of ``abeyance evaluate`` and ``abeyance calibrate``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from abeyance.evaluation import plots
from abeyance.evaluation.calibration import Anchor, CalibrationResult
from abeyance.evaluation.detection import DetectionStudy
from abeyance.evaluation.report import (
    Plot,
    ReportTable,
    Section,
    StudyReport,
    count,
    interval,
    number,
    percent,
    scientific,
)
from abeyance.evaluation.study import IdentificationStudy, VerificationStudy
from abeyance.evaluation.throughput import ThroughputStudy
from abeyance.evaluation.verification import FoldAccuracy

_AT_SCALE = "At the model's similarity scale"


def verification_report(found: VerificationStudy) -> StudyReport:
    """Return accuracy over pairs, FNMR at FMR, and the DET curve."""
    tiles = [
        (percent(point.fnmr.value), f"of mated pairs missed at FMR {scientific(point.fmr)}")
        for point in found.operating[1:4]
    ]
    sections = [_error_rates(found)]
    if found.accuracy:
        tiles.insert(
            0, (percent(found.accuracy.mean), f"accuracy over {count(found.accuracy.pairs)} published pairs")
        )
        sections.insert(0, _fold_accuracy(found.accuracy))
    return StudyReport(
        "Verification: do two photos show one person?",
        "How often two people are taken for one (false match, FMR), and one for two (false non-match, FNMR).",
        tiles,
        sections,
        (
            ("Model", found.model),
            ("Photos", found.source),
            ("Equal error rate", percent(found.equal_error_rate)),
        ),
    )


def _fold_accuracy(accuracy: FoldAccuracy) -> Section:
    return Section(
        "Accuracy over the published pairs",
        [
            f"{percent(accuracy.mean)} ± {percent(accuracy.standard_deviation)} (standard deviation over "
            f"{len(accuracy.folds)} folds), 95 % interval {percent(accuracy.low)} – {percent(accuracy.high)}. "
            "The threshold of each fold is the best one on the other folds."
        ],
        tables=[
            ReportTable.of(
                "By fold",
                enumerate(zip(accuracy.folds, accuracy.thresholds, strict=True), 1),
                {
                    "Fold": lambda fold: str(fold[0]),
                    "Accuracy": lambda fold: percent(fold[1][0]),
                    "Threshold (cosine)": lambda fold: f"{fold[1][1]:.3f}",
                },
            )
        ],
    )


def _error_rates(found: VerificationStudy) -> Section:
    marks = [(f"FMR {scientific(p.fmr)}", p.fmr, p.fnmr.value) for p in found.operating]
    fnmr_at_fmr = ReportTable.of(
        "FNMR at FMR",
        found.operating,
        {
            "FMR": lambda p: scientific(p.fmr),
            "Threshold (cosine)": lambda p: f"{p.threshold:.4f}",
            "its interval": lambda p: f"{p.threshold_low:.3f} – {p.threshold_high:.3f}",
            "FNMR (95 %)": lambda p: interval(p.fnmr),
            "missed": lambda p: f"{p.fnmr.count} of {count(p.fnmr.trials)}",
            "false matches": lambda p: (
                count(p.false_matches) + (" – too few to be certain" if p.uncertain else "")
            ),
        },
        "; ".join(
            f"FMR {scientific(u.fmr)} cannot be measured: it takes {count(u.pairs_needed)} pairs of strangers, "
            f"and there are {count(u.pairs)}"
            for u in found.unmeasurable
        ),
    )
    at_scale = ReportTable.of(
        _AT_SCALE,
        found.fixed,
        {
            "Similarity": lambda f: f"{f.similarity:g}",
            "Cosine": lambda f: f"{f.cosine:.4f}",
            "FMR (95 %)": lambda f: interval(f.fmr),
            "FNMR (95 %)": lambda f: interval(f.fnmr),
        },
    )
    return Section(
        "Error rates",
        [
            f"{count(found.mated_pairs)} mated pairs of {count(found.people)} people and "
            f"{count(found.non_mated_pairs)} pairs of strangers ({found.strangers}). "
            f"{count(found.same_shot_pairs_left_out)} mated pairs were left out as one shot cropped twice. "
            f"No face was found in {count(found.failures_to_detect)} of {count(found.photos)} photos; their "
            "mated pairs count as missed."
        ],
        tables=[fnmr_at_fmr, at_scale],
        plots=[Plot("DET curve", partial(plots.det_curve, found.det.fmr, found.det.fnmr, marks))],
    )


def identification_report(found: IdentificationStudy) -> StudyReport:
    """Return identification rates by rank, and FNIR at FPIR."""
    result = found.result
    ranks = ReportTable.of(
        "Found at rank, without a threshold",
        result.ranks,
        {
            "Rank": lambda r: str(r.rank),
            "Rate (95 %)": lambda r: interval(r.rate),
            "of": lambda r: count(r.rate.trials),
        },
    )
    open_set = ReportTable.of(
        "FNIR at FPIR",
        result.open_set,
        {
            "FPIR": lambda o: scientific(o.fpir),
            "Threshold (cosine)": lambda o: f"{o.threshold:.4f}",
            "FNIR (95 %)": lambda o: interval(o.fnir),
            "non-mated probes falsely found": lambda o: count(o.false_positives),
        },
        "; ".join(
            f"FPIR {scientific(fpir)} cannot be measured with {result.non_mated_probes} non-mated probes"
            for fpir in result.unmeasurable
        ),
    )
    at_scale = ReportTable.of(
        _AT_SCALE,
        zip(found.similarities, result.fixed, strict=True),
        {
            "Similarity": lambda at: f"{at[0]:g}",
            "Cosine": lambda at: f"{at[1].threshold:.4f}",
            "FNIR (95 %)": lambda at: interval(at[1].fnir),
            "FPIR (95 %)": lambda at: interval(at[1].fpir),
        },
    )
    return StudyReport(
        "Identification: whose photo is this?",
        f"{count(result.mated_probes)} probes with a mate and {count(result.non_mated_probes)} without, searched "
        f"among {count(result.gallery_people)} people ({count(result.gallery_photos)} photos).",
        [
            *((percent(r.rate.value), f"found at rank {r.rank}") for r in result.ranks[:1]),
            *((percent(o.fnir.value), f"missed at FPIR {scientific(o.fpir)}") for o in result.open_set),
        ],
        [Section("Results", tables=[ranks, open_set, at_scale])],
        (
            ("Model", found.model),
            ("Photos", found.source),
            ("Enrolled as well", found.distractors or "nobody"),
            ("Non-mated probes", found.unknown or "people with one photo"),
            ("Photos without a face", count(found.failures_to_detect)),
        ),
    )


def detection_report(found: DetectionStudy) -> StudyReport:
    """Return recall by size, and false positives."""
    result = found.result
    confidence, recall, precision = zip(*found.by_confidence, strict=True)
    curves = [("recall", confidence, recall), ("precision", confidence, precision)]
    sizes = ReportTable.of(
        f"Recall at confidence {result.min_confidence:g}",
        result.sizes,
        {
            "Height in px": lambda s: (
                f"{s.at_least:g} " + ("and more" if s.below is None else f"– {s.below:g}")
            ),
            "Recall (95 %)": lambda s: interval(s.recall),
            "found": lambda s: count(s.recall.count),
            "marked": lambda s: count(s.recall.trials),
        },
        f"{result.min_size:g} px and more: recall {interval(result.recall)}, precision "
        f"{interval(result.precision)}, {result.false_positives} false positives, average precision "
        f"{result.average_precision:.3f}.",
    )
    return StudyReport(
        "Detection: which faces are found?",
        f"{count(result.images)} images, against boxes that people marked; a face counts as found if the boxes share "
        f"at least {percent(result.overlap, 0)} of their union.",
        [
            (percent(result.recall.value, 1), f"of faces of {result.min_size:g} px and more are found"),
            (percent(result.precision.value, 1), "of detections of that size are faces"),
            (f"{found.milliseconds_per_image:.0f} ms", "an image (median, one thread)"),
        ],
        [
            Section(
                "By size",
                [
                    "Size is the height of the marked box in pixels of the original photo. Small faces are often not "
                    "marked, so detections below the least size are left out."
                ],
                tables=[sizes],
                plots=[
                    Plot(
                        f"Faces of {result.min_size:g} px and more, by least confidence",
                        partial(plots.lines, curves, "Least confidence", "Rate"),
                    )
                ],
            )
        ],
        (("Model", found.model), ("Images", found.source)),
    )


def throughput_report(found: ThroughputStudy) -> StudyReport:
    """Return the time of each step."""
    steps = [(step, f"{getattr(found, step):.2f}") for step in ("decode", "detect", "align", "embed")]
    return StudyReport(
        "Throughput: how long does a photo take?",
        f"{count(found.photos)} photos, timed without the cache.",
        [(f"{found.photos_per_second:.1f}", f"photos per second on {found.workers} threads")],
        [Section("Steps", tables=[ReportTable("Median of one photo on one thread", ("Step", "ms"), steps)])],
        [("Model", found.model)],
    )


def calibration_report(found: CalibrationResult) -> StudyReport:
    """Return the scale, and the data that it comes from."""
    level = found.cleaning.level
    return StudyReport(
        "Calibration: the meaning of a similarity",
        f"Measured on {count(found.people)} strangers: {count(found.pairs)} pairs, of which "
        f"{count(found.pairs_within_groups)} within one group.",
        [
            (
                f"{a.threshold:.4f}",
                f"cosine of similarity {a.similarity:g}: FMR {scientific(a.fmr)} in the worst group",
            )
            for a in found.anchors[-2:]
        ],
        list(_calibration_sections(found)),
        (
            ("Model", found.model),
            ("Counted as one person", "nobody" if level is None else f"from cosine {level:g}"),
            ("Photos left out", count(found.cleaning.photos_left_out)),
        ),
    )


def _calibration_sections(found: CalibrationResult) -> Iterator[Section]:
    keys = [f"{a.similarity:g}" for a in found.anchors]
    cosines, similarities = zip(*found.knots, strict=True)
    scale = [("similarity", cosines, similarities)]
    anchors = ReportTable.of(
        "Anchors",
        found.anchors,
        {
            "Similarity": lambda a: f"{a.similarity:g}",
            "FMR at most": lambda a: scientific(a.fmr),
            "Cosine": lambda a: f"{a.threshold:.4f}",
            "its interval": lambda a: f"{a.threshold_low:.3f} – {a.threshold_high:.3f}",
            "Worst group": lambda a: a.worst,
            "FMR of all pairs": lambda a: interval(a.overall),
        },
    )
    costs = ReportTable(
        "FNMR of mated pairs at the anchors",
        ("Source", "Pairs", *(f"at {key}" for key in keys)),
        [
            (
                cost.source,
                f"{count(cost.pairs)} of {count(cost.people)} people",
                *map(interval, cost.fnmr.values()),
            )
            for cost in found.costs
        ],
    )
    yield Section(
        "The scale",
        [
            "A similarity stands for the share of pairs of strangers of one group that reach it, in the group with the "
            "largest share. Between the anchors the scale is linear."
        ],
        tables=[anchors, costs],
        plots=[Plot("Similarity over cosine", partial(plots.lines, scale, "Cosine", "Similarity"))],
    )
    yield from map(_anchor, found.anchors)
    if found.sensitivity:
        levels = ReportTable(
            "The scale at other levels",
            ("Level", "Photos left out", *(f"cosine of {key}" for key in keys)),
            [
                (
                    "nothing left out" if c.level is None else f"{c.level:g}",
                    count(c.photos_left_out),
                    *(number(c.thresholds[key], 3) for key in keys),
                )
                for c in (found.cleaning, *found.sensitivity)
            ],
        )
        yield Section(
            "Repeated people",
            [
                "Photos that are meant to show different people may show one person twice, and such pairs look like "
                "false matches. Photos linked by the cosine in the first column count as one person, and one of them "
                "stays. A lower level leaves out more real strangers along with the repeated people, so the truth lies "
                "between the rows."
            ],
            tables=[levels],
        )


def _anchor(anchor: Anchor) -> Section:
    excluded = anchor.excluded_groups
    groups = ReportTable.of(
        f"False-match rate by group at cosine {anchor.threshold:.4f}",
        sorted(anchor.groups, key=lambda g: -g.fmr.value),
        {
            "Group": lambda g: g.group,
            "FMR (95 %)": lambda g: interval(g.fmr),
            "false matches": lambda g: count(g.fmr.count),
            "pairs": lambda g: count(g.fmr.trials),
            "own cosine": lambda g: number(g.own_threshold, 3),
        },
    )
    return Section(
        f"Similarity {anchor.similarity:g}",
        [f"Groups below the minimum sample size: {', '.join(excluded)}."] if excluded else [],
        tables=[groups],
        detail=True,
    )
