"""What each result looks like on a page."""

from __future__ import annotations

from collections.abc import Sequence

from abeyance.evaluation import plots
from abeyance.evaluation.audit import Audit
from abeyance.evaluation.calibration import Result
from abeyance.evaluation.clusters import Spread
from abeyance.evaluation.demographics import Differential
from abeyance.evaluation.legislators import Legislators
from abeyance.evaluation.report import (
    Figure,
    Page,
    Picture,
    Section,
    Table,
    interval,
    number,
    percent,
    small,
)
from abeyance.evaluation.study import DetectionStudy, IdentificationStudy, Verification

_GROUPS = {
    "fmr": "False-match rate within the group",
    "fnmr": "False non-match rate",
    "failure_to_detect": "Share of photos without a face found",
}


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


def audit(found: Audit) -> Page:
    """Differentials at every threshold."""
    sections = []
    for at in found.thresholds:
        paragraphs = []
        if at.fmr:
            paragraphs.append(f"All pairs of strangers: FMR {interval(at.fmr)}.")
        if at.fnmr:
            paragraphs.append(f"All mated pairs: FNMR {interval(at.fnmr)}.")
        sections.append(Section(f"Similarity {at.similarity:g} (cosine {at.cosine:.4f})", paragraphs))
        sections += [_differential(one, at.similarity) for one in (*at.false_matches, *at.false_non_matches)]
        figures = [
            Figure(
                f"False matches per 10 000 pairs, within (diagonal) and across {' x '.join(one.attributes)}",
                plots.heat(m, f"Similarity {at.similarity:g}"),
            )
            for m, one in zip(at.matrices, at.false_matches, strict=False)
            if 1 < len(m.groups) <= 16
        ]
        if figures:
            sections.append(
                Section(f"Within and across groups, similarity {at.similarity:g}", (), (), figures)
            )
        for both in at.combined:
            sections.append(
                Section(
                    f"FMR and FNMR in one number, similarity {at.similarity:g}",
                    (
                        f"Over {', '.join(both.groups)}: FDR {both.fdr:.4f}, GARBE {both.garbe:.3f} "
                        f"(alpha {both.alpha:g}).",
                        both.critique,
                    ),
                )
            )
    sections += [_differential(one, None) for one in found.failure_to_detect]
    sections += [
        Section(
            f"Accuracy of {one.attribute} by {' x '.join(one.grouping)}",
            (f"Overall {interval(one.overall)}; best less worst {percent(one.difference)}.",),
            (
                Table(
                    f"Accuracy of {one.attribute}",
                    ("Group", "Accuracy (95 %)", "faces"),
                    [(g, interval(r), number(r.trials)) for g, r in one.by_group.items()],
                ),
            ),
        )
        for one in found.attribute_accuracy
    ]
    headline = [
        (
            "–" if one.max_over_min is None else f"{one.max_over_min:.1f} ×",
            f"worst to best false-match rate by {' x '.join(one.attributes)} at similarity {at.similarity:g}"
            + ("" if one.judged == len(one.groups) else f", over {one.judged} of {len(one.groups)} groups"),
        )
        for at in found.thresholds[:2]
        for one in at.false_matches[:2]
    ]
    return Page(
        "Bias audit: who does it get wrong?",
        f"{number(found.people)} strangers ({found.strangers}), {number(found.pairs)} pairs; "
        f"{number(found.mated_pairs)} mated pairs ({found.mated or 'none'}).",
        headline,
        sections,
        (
            ("Model", found.model),
            ("Left out as one person twice", f"{number(found.photos_left_out_as_same_person)} photos"),
            ("Left out as one shot twice", f"{number(found.mated_pairs_left_out_as_same_shot)} mated pairs"),
        ),
    )


def _differential(found: Differential, similarity: float | None) -> Section:
    title = _GROUPS.get(found.measure, found.measure)
    by = " x ".join(found.attributes)
    rows = sorted(found.groups, key=lambda row: -row.rate.value)
    numbers = ""
    if found.max_over_min is not None and found.gini is not None:
        numbers = (
            f"Worst to best {found.max_over_min:.2f}, worst to geometric mean "
            f"{found.max_over_geometric_mean or 0:.2f}, Gini {found.gini:.3f}."
        )
    heading = f"{title} by {by}" + (f", similarity {similarity:g}" if similarity is not None else "")
    return Section(
        heading,
        (found.says, numbers) if numbers else (found.says,),
        (
            Table(
                heading,
                (
                    "Group",
                    "Rate (95 %)",
                    "errors",
                    "trials",
                    "people",
                    "to best",
                    "to geometric mean",
                    "needs",
                ),
                [
                    (
                        row.group,
                        interval(row.rate),
                        number(row.rate.count),
                        number(row.rate.trials),
                        number(row.rate.people),
                        _times(row.ratio_to_best),
                        _times(row.ratio_to_geometric_mean),
                        "" if row.judged else f"{number(row.more_people_needed)} more people",
                    )
                    for row in rows[:60]
                ],
                f"The {len(rows) - 60} groups with the lowest rates are in the JSON only."
                if len(rows) > 60
                else "",
            ),
        ),
        (Figure(f"{title} by {by}; pale: too few errors to judge", plots.intervals(found, title)),)
        if len(rows) > 1
        else (),
    )


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def legislators(found: Legislators, pictures: Sequence[Picture] = ()) -> Page:
    """The test, with the published ones beside it."""
    rows = [
        (
            f"this deployment, at {at.name}",
            f"{number(at.falsely_matched)} of {number(found.probes)}",
            interval(at.rate),
            number(found.gallery),
            f"{at.similarity:g} (cosine {at.cosine:.3f})",
            _colour(at.groups.get("race", ())),
        )
        for at in found.thresholds
    ] + [
        (
            f"{p.year}, {p.by}",
            f"{p.falsely_matched} of {p.probes}",
            percent(p.falsely_matched / p.probes, 1),
            number(p.gallery),
            f"{p.similarity:g}, of the service then",
            "–"
            if p.share_of_false_matches is None
            else f"{percent(p.share_of_false_matches, 0)} of false matches, "
            f"{percent(p.share_of_probes or 0, 0)} of probes",
        )
        for p in found.published
    ]
    groups = [
        Table(
            f"By {attribute} at {at.name}",
            (
                "Group",
                "Probes",
                "Falsely matched",
                "Rate (95 %)",
                "Share of probes",
                "Share of false matches",
            ),
            [
                (
                    g.group,
                    number(g.probes),
                    number(g.falsely_matched),
                    interval(g.rate),
                    percent(g.share_of_probes, 1),
                    "–" if g.share_of_false_matches is None else percent(g.share_of_false_matches, 1),
                )
                for g in shares
            ],
            ""
            if at.chance is None or attribute != "race"
            else f"Chance alone would make people of colour so large a part with probability {at.chance:.2g}.",
        )
        for at in found.thresholds
        for attribute, shares in at.groups.items()
        if at.falsely_matched
    ]
    m = found.moratorium
    says = (
        f"To a police department that wants to search in an investigation, the active flags ({m.flags_version}) say: "
        f"{'permitted' if m.permitted else 'denied'}. {m.reason} "
    )
    if m.min_similarity is not None:
        says += "They ask for" if m.permitted else "Were the halt lifted, they would ask for"
        says += f" a similarity of at least {m.min_similarity:g}"
        says += f" and review by {m.human_review} people." if m.human_review else "."
    else:
        says += "No least similarity is asked for."
    curve = [(s, n) for s, _, n in found.curve]
    return Page(
        "The legislators test",
        f"{number(found.probes)} public officials searched in a gallery of {number(found.gallery)} strangers. "
        "Nobody in the gallery is one of them, so whoever is found is a false match.",
        [
            (f"{at.falsely_matched} of {found.probes}", f"officials falsely matched at {at.name}")
            for at in found.thresholds
        ],
        [
            Section(
                "Beside the published tests",
                (
                    "The published tests used another model, another gallery and another scale: a similarity of 80 "
                    "there is not one of 80 here. What can be compared is what the default setting does to people.",
                    f"Nobody is falsely matched above similarity {found.clear_from:.1f} here. Twice as large a gallery "
                    "makes about twice as many false matches.",
                    says,
                ),
                (
                    Table(
                        "False matches",
                        ("Test", "Falsely matched", "Rate", "Gallery", "Similarity", "People of colour"),
                        rows,
                        "; ".join(p.source for p in found.published),
                    ),
                    Table(
                        "What somebody would have to look at",
                        ("Threshold", "Officials with a candidate", "Candidates", "Candidates shown"),
                        [
                            (at.name, number(at.falsely_matched), number(at.candidates), number(at.shown))
                            for at in found.thresholds
                        ],
                        "At most ten candidates are shown for a search.",
                    ),
                ),
                (
                    Figure(
                        "Officials falsely matched, by the similarity asked for",
                        plots.lines(
                            [("officials", [s for s, _ in curve], [float(n) for _, n in curve])],
                            "Least similarity",
                            "Officials falsely matched",
                        ),
                    ),
                ),
            ),
            *([Section("By group", (), groups)] if groups else []),
            *([Section("The false matches", (), (), (), pictures)] if pictures else []),
        ],
        (
            ("Model", found.model),
            ("Comparisons", number(found.comparisons)),
            ("Officials without a face found", number(found.probes_without_face)),
            ("Gallery photos without a face found", number(found.gallery_without_face)),
        ),
    )


def _colour(shares: Sequence[object]) -> str:
    from abeyance.evaluation.legislators import GroupShare, is_white

    known = [share for share in shares if isinstance(share, GroupShare)]
    probes = sum(share.probes for share in known)
    matched = sum(share.falsely_matched for share in known)
    others = [share for share in known if not is_white(share.group)]
    if not probes:
        return "–"
    part = percent(sum(share.probes for share in others) / probes, 0)
    if not matched:
        return f"no false match; {part} of probes"
    return (
        f"{percent(sum(s.falsely_matched for s in others) / matched, 0)} of false matches, {part} of probes"
    )
