"""What each result looks like on a page."""

from __future__ import annotations

from collections.abc import Sequence

from abeyance.evaluation import plots
from abeyance.evaluation.calibration import Result
from abeyance.evaluation.clusters import Spread
from abeyance.evaluation.report import (
    Figure,
    Page,
    Section,
    Table,
    interval,
    number,
    percent,
    small,
)
from abeyance.evaluation.study import DetectionStudy, IdentificationStudy, Verification


def verification(found: Verification) -> Page:
    """Accuracy over pairs, DET, FNMR at FMR."""
    headline = []
    sections = []
    if found.accuracy:
        accuracy = found.accuracy
        headline.append((percent(accuracy.mean), f"accuracy over {number(accuracy.pairs)} published pairs"))
        sections.append(
            Section(
                "Accuracy over the published pairs",
                (
                    f"{percent(accuracy.mean)} ± {percent(accuracy.standard_deviation)} (standard deviation over "
                    f"{len(accuracy.folds)} folds), 95 % interval {percent(accuracy.low)} – {percent(accuracy.high)}. "
                    "Each fold is judged at the threshold that is best on the others.",
                ),
                (
                    Table(
                        "By fold",
                        ("Fold", "Accuracy", "Threshold (cosine)"),
                        [
                            (str(i + 1), percent(value), f"{threshold:.3f}")
                            for i, (value, threshold) in enumerate(
                                zip(accuracy.folds, accuracy.thresholds, strict=True)
                            )
                        ],
                    ),
                ),
            )
        )
    headline += [
        (percent(point.fnmr.value), f"of mated pairs missed at FMR {small(point.fmr)}")
        for point in found.operating[1:4]
    ]
    marks = [(f"FMR {small(p.fmr)}", p.fmr, p.fnmr.value) for p in found.operating]
    sections.append(
        Section(
            "Error rates",
            (
                f"{number(found.mated_pairs)} mated pairs of {number(found.people)} people and "
                f"{number(found.non_mated_pairs)} pairs of strangers ({found.strangers}). "
                f"{number(found.same_shot_pairs_left_out)} mated pairs were left out as one shot cropped twice. "
                f"No face was found in {number(found.failures_to_detect)} of {number(found.photos)} photos; their "
                "mated pairs count as missed.",
            ),
            (
                Table(
                    "FNMR at FMR",
                    ("FMR", "Threshold (cosine)", "its interval", "FNMR (95 %)", "missed", "false matches"),
                    [
                        (
                            small(p.fmr),
                            f"{p.threshold:.4f}",
                            f"{p.threshold_low:.3f} – {p.threshold_high:.3f}",
                            interval(p.fnmr),
                            f"{p.fnmr.count} of {number(p.fnmr.trials)}",
                            number(p.false_matches) + (" – too few to be sure" if p.uncertain else ""),
                        )
                        for p in found.operating
                    ],
                    "; ".join(
                        f"FMR {small(u.fmr)} cannot be measured: {number(u.pairs_needed)} pairs needed, "
                        f"{number(u.pairs)} there"
                        for u in found.unmeasurable
                    ),
                ),
                Table(
                    "At the model's similarity scale",
                    ("Similarity", "Cosine", "FMR (95 %)", "FNMR (95 %)"),
                    [
                        (f"{f.similarity:g}", f"{f.cosine:.4f}", interval(f.fmr), interval(f.fnmr))
                        for f in found.fixed
                    ],
                ),
            ),
            (Figure("DET curve", plots.det_curve(found.det.fmr, found.det.fnmr, marks)),),
        )
    )
    return Page(
        "Verification: are these two photos of one person?",
        "How often two people are taken for one, and one for two.",
        headline,
        sections,
        (
            ("Model", found.model),
            ("Photos", found.source),
            ("Equal error rate", percent(found.equal_error_rate)),
        ),
    )


def identification(found: IdentificationStudy) -> Page:
    """Ranks, FNIR at FPIR."""
    result = found.result
    tables = [
        Table(
            "Found at rank, without a threshold",
            ("Rank", "Rate (95 %)", "of"),
            [(str(r.rank), interval(r.rate), number(r.rate.trials)) for r in result.ranks],
        ),
        Table(
            "FNIR at FPIR",
            ("FPIR", "Threshold (cosine)", "FNIR (95 %)", "unknown probes falsely found"),
            [
                (small(o.fpir), f"{o.threshold:.4f}", interval(o.fnir), number(o.false_positives))
                for o in result.open_set
            ],
            "; ".join(
                f"FPIR {small(rate)} cannot be measured with {result.unknown_probes} unknown probes"
                for rate in result.unmeasurable
            ),
        ),
        Table(
            "At the model's similarity scale",
            ("Similarity", "Cosine", "FNIR (95 %)", "FPIR (95 %)"),
            [
                (f"{s:g}", f"{a.threshold:.4f}", interval(a.fnir), interval(a.fpir))
                for s, a in zip(found.similarities, result.fixed, strict=True)
            ],
        ),
    ]
    headline = [(percent(r.rate.value), f"found at rank {r.rank}") for r in result.ranks[:1]]
    headline += [(percent(o.fnir.value), f"missed at FPIR {small(o.fpir)}") for o in result.open_set]
    return Page(
        "Identification: whose photo is this?",
        f"{number(result.mated_probes)} probes with a mate and {number(result.unknown_probes)} without, searched "
        f"among {number(result.gallery_people)} people ({number(result.gallery_photos)} photos).",
        headline,
        [Section("Results", (), tables)],
        (
            ("Model", found.model),
            ("Photos", found.source),
            ("Enrolled as well", found.distractors or "nobody"),
            ("Unknown probes", found.unknown or "people with one photo"),
            ("Photos without a face", number(found.failures_to_detect)),
        ),
    )


def detection(found: DetectionStudy) -> Page:
    """Recall by size, false positives."""
    result = found.result
    confidence, recall, precision = zip(*found.by_confidence, strict=True)
    return Page(
        "Detection: which faces are found?",
        f"{number(result.images)} images, against boxes that people marked; a face counts as found where the "
        f"boxes share at least {percent(result.overlap, 0)} of their union.",
        [
            (percent(result.recall.value, 1), f"of faces of {result.min_size:g} px and more are found"),
            (percent(result.precision.value, 1), "of detections of that size are faces"),
            (f"{found.milliseconds_per_image:.0f} ms", "an image (median, one thread)"),
        ],
        [
            Section(
                "By size",
                (
                    "Size is the height of the marked box in pixels of the photo as it is. Small faces are often not "
                    "marked, so detections below the least size count neither way.",
                ),
                (
                    Table(
                        f"Recall at confidence {result.min_confidence:g}",
                        ("Height in px", "Recall (95 %)", "found", "marked"),
                        [
                            (
                                f"{s.at_least:g} and more"
                                if s.below is None
                                else f"{s.at_least:g} – {s.below:g}",
                                interval(s.recall),
                                number(s.recall.count),
                                number(s.recall.trials),
                            )
                            for s in result.sizes
                        ],
                        f"{result.min_size:g} px and more: recall {interval(result.recall)}, precision "
                        f"{interval(result.precision)}, {result.false_positives} false positives, average precision "
                        f"{result.average_precision:.3f}.",
                    ),
                ),
                (
                    Figure(
                        f"Faces of {result.min_size:g} px and more, as the confidence asked for varies",
                        plots.lines(
                            [("recall", confidence, recall), ("precision", confidence, precision)],
                            "Least confidence",
                            "Rate",
                        ),
                    ),
                ),
            )
        ],
        (("Model", found.model), ("Images", found.source)),
    )


def calibration(found: Result, spreads: Sequence[Spread] = ()) -> Page:
    """The scale and what it rests on."""
    sections = [
        Section(
            "The scale",
            (
                "A similarity stands for the share of pairs of strangers of one group that reach it, in the group "
                "where that share is largest. Between the anchors the scale is straight.",
            ),
            (
                Table(
                    "Anchors",
                    (
                        "Similarity",
                        "FMR at most",
                        "Cosine",
                        "its interval",
                        "Worst group",
                        "FMR of all pairs",
                    ),
                    [
                        (
                            f"{a.similarity:g}",
                            small(a.fmr),
                            f"{a.threshold:.4f}",
                            f"{a.threshold_low:.3f} – {a.threshold_high:.3f}",
                            a.worst,
                            interval(a.overall),
                        )
                        for a in found.anchors
                    ],
                ),
                Table(
                    "What it costs: mated pairs missed",
                    ("Source", "Pairs", *(f"at {a.similarity:g}" for a in found.anchors)),
                    [
                        (
                            cost.source,
                            f"{number(cost.pairs)} of {number(cost.people)} people",
                            *(interval(cost.fnmr[f"{a.similarity:g}"]) for a in found.anchors),
                        )
                        for cost in found.costs
                    ],
                ),
            ),
            (
                Figure(
                    "Similarity over cosine",
                    plots.lines(
                        [("similarity", *zip(*found.knots, strict=True))],  # type: ignore[list-item]
                        "Cosine",
                        "Similarity",
                    ),
                ),
            ),
        )
    ]
    for anchor in found.anchors:
        sections.append(  # noqa: PERF401
            Section(
                f"Similarity {anchor.similarity:g}",
                (f"Too small to have a say: {', '.join(anchor.unheard)}.",) if anchor.unheard else (),
                (
                    Table(
                        f"False-match rate by group at cosine {anchor.threshold:.4f}",
                        ("Group", "FMR (95 %)", "false matches", "pairs", "own cosine"),
                        [
                            (
                                g.group,
                                interval(g.fmr),
                                number(g.fmr.count),
                                number(g.fmr.trials),
                                "–" if g.own_threshold is None else f"{g.own_threshold:.3f}",
                            )
                            for g in sorted(anchor.groups, key=lambda g: -g.fmr.value)
                        ],
                    ),
                ),
            )
        )
    if found.sensitivity:
        keys = [f"{a.similarity:g}" for a in found.anchors]
        sections.append(
            Section(
                "One person twice",
                (
                    "Photos that are meant to show different people may show one person twice, and those pairs look "
                    "like false matches. Photos linked by the cosine in the first column are taken for one person, "
                    "and one of them stays. The lower that level, the more real strangers are thrown out with the "
                    "repeated ones, so the truth lies between the rows.",
                ),
                (
                    Table(
                        "The same scale for other levels",
                        ("Level", "Photos left out", *(f"cosine of {key}" for key in keys)),
                        [
                            (
                                "nothing left out" if c.level is None else f"{c.level:g}",
                                number(c.photos_left_out),
                                *("–" if (t := c.thresholds[k]) is None else f"{t:.3f}" for k in keys),
                            )
                            for c in (found.cleaning, *found.sensitivity)
                        ],
                    ),
                ),
            )
        )
    if spreads:
        sections.append(
            Section(
                "Clusters instead of one scale",
                (
                    "A calibration by clusters of template space needs no group labels. Each row is measured on people "
                    "that the clusters were not made from, at the threshold where the given share of mated pairs is "
                    "missed.",
                ),
                (
                    Table(
                        "Spread of FMR between groups at equal FNMR",
                        (
                            "Method",
                            "FNMR",
                            "FMR of all",
                            "Worst group",
                            "Worst / best",
                            "Worst / geometric mean",
                            "Gini",
                            "Fewest false matches",
                        ),
                        [
                            (
                                s.method,
                                percent(s.fnmr),
                                small(s.overall_fmr),
                                small(s.worst_fmr),
                                f"{s.max_over_min:.1f}" if s.max_over_min != float("inf") else "–",
                                f"{s.worst_over_geometric_mean:.2f}",
                                f"{s.gini:.3f}",
                                number(s.fewest_false_matches),
                            )
                            for s in spreads
                        ],
                    ),
                ),
            )
        )
    return Page(
        "Calibration: what a similarity means",
        f"Measured on {number(found.people)} strangers: {number(found.pairs)} pairs, of which "
        f"{number(found.pairs_within_groups)} within one group.",
        [
            (
                f"{a.threshold:.4f}",
                f"cosine of similarity {a.similarity:g}: FMR {small(a.fmr)} in the worst group",
            )
            for a in found.anchors[-2:]
        ],
        sections,
        (
            ("Model", found.model),
            (
                "Taken for one person",
                "nobody" if found.cleaning.level is None else f"from cosine {found.cleaning.level:g}",
            ),
            ("Photos left out", number(found.cleaning.photos_left_out)),
        ),
    )
