"""Reports of ``abeyance audit``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from abeyance.evaluation import plots
from abeyance.evaluation.audit import Audit, AuditAtThreshold
from abeyance.evaluation.demographics import Differential, GroupRate
from abeyance.evaluation.legislators import (
    MAX_SHOWN,
    GroupShare,
    LegislatorsTest,
    PoliceSearch,
    PublishedTest,
    SearchAtThreshold,
    is_white,
)
from abeyance.evaluation.prediction_accuracy import PredictionAccuracy
from abeyance.evaluation.report import (
    FacePair,
    Plot,
    ReportTable,
    Section,
    StudyReport,
    count,
    interval,
    number,
    percent,
)

_MEASURES = {
    "fmr": "False-match rate within the group",
    "fnmr": "False non-match rate",
    "failure_to_detect": "Share of photos without a face found",
}
#: Larger tables of groups, and larger matrices, would be too long to read.
_MAX_ROWS, _MAX_MATRIX = 60, 16


def audit_report(found: Audit) -> StudyReport:
    """Return the differentials at every threshold."""
    tiles = [
        (
            "–" if one.max_over_min is None else f"{one.max_over_min:.1f} ×",
            f"worst to best false-match rate by {one.grouping} at similarity {at.similarity:g}"
            + ("" if one.judged == len(one.groups) else f", over {one.judged} of {len(one.groups)} groups"),
        )
        for at in found.thresholds[:2]
        for one in at.false_matches[:2]
    ]
    sections = [section for at in found.thresholds for section in _at_threshold(at)]
    sections += [_differential(one, "") for one in found.failure_to_detect]
    sections += map(_prediction, found.attribute_accuracy)
    return StudyReport(
        "Bias audit: error rates by group",
        f"{count(found.people)} strangers ({found.strangers}), {count(found.pairs)} pairs; "
        f"{count(found.mated_pairs)} mated pairs ({found.mated or 'none'}).",
        tiles,
        sections,
        (
            ("Model", found.model),
            ("Left out as repeated people", f"{count(found.photos_left_out_as_same_person)} photos"),
            ("Left out as repeated shots", f"{count(found.mated_pairs_left_out_as_same_shot)} mated pairs"),
        ),
    )


def _prediction(one: PredictionAccuracy) -> Section:
    rows = [(group, interval(rate), count(rate.trials)) for group, rate in one.by_group.items()]
    return Section(
        f"Accuracy of {one.attribute} by {' x '.join(one.grouping)}",
        [f"Overall {interval(one.overall)}; best less worst {percent(one.difference)}."],
        tables=[ReportTable(f"Accuracy of {one.attribute}", ("Group", "Accuracy (95 %)", "faces"), rows)],
    )


def _at_threshold(at: AuditAtThreshold) -> Iterator[Section]:
    where = f", similarity {at.similarity:g}"
    overall = [
        *([f"All pairs of strangers: FMR {interval(at.fmr)}."] if at.fmr else []),
        *([f"All mated pairs: FNMR {interval(at.fnmr)}."] if at.fnmr else []),
    ]
    yield Section(f"Similarity {at.similarity:g} (cosine {at.cosine:.4f})", overall)
    for one in (*at.false_matches, *at.false_non_matches):
        yield _differential(one, where)
    heat_maps = [
        Plot(
            f"False matches per 10 000 pairs, within (diagonal) and across {one.grouping}",
            partial(plots.heat_map, table, f"Similarity {at.similarity:g}"),
        )
        for table, one in zip(at.matrices, at.false_matches, strict=False)
        if 1 < len(table.groups) <= _MAX_MATRIX
    ]
    if heat_maps:
        yield Section(f"Within and across groups{where}", plots=heat_maps, detail=True)
    for both in at.combined:
        yield Section(
            f"FMR and FNMR in one number{where}",
            [
                f"Over {', '.join(both.groups)}: FDR {both.fdr:.4f}, GARBE {both.garbe:.3f} (alpha {both.alpha:g}).",
                both.critique,
            ],
            detail=True,
        )


def _differential(found: Differential, where: str) -> Section:
    title = f"{_MEASURES[found.measure]} by {found.grouping}"
    rows = found.by_rate
    left_out = len(rows) - _MAX_ROWS
    explanation = [found.explanation]
    if found.max_over_min is not None and found.gini is not None:
        explanation.append(
            f"Worst to best {found.max_over_min:.2f}, worst to geometric mean "
            f"{found.max_over_geometric_mean or 0:.2f}, Gini {found.gini:.3f}."
        )
    table = ReportTable.of(
        title + where,
        rows[:_MAX_ROWS],
        {
            "Group": lambda row: row.group,
            "Rate (95 %)": lambda row: interval(row.rate),
            "errors": lambda row: count(row.rate.count),
            "trials": lambda row: count(row.rate.trials),
            "people": lambda row: count(row.rate.people),
            "to best": lambda row: number(row.ratio_to_best, 2),
            "to geometric mean": lambda row: number(row.ratio_to_geometric_mean, 2),
            "needs": _needs,
        },
        f"The {left_out} groups with the lowest rates are in the JSON only." if left_out > 0 else "",
    )
    draw = partial(plots.intervals, found, _MEASURES[found.measure])
    plot = Plot(f"{title}; pale: too few errors to judge", draw)
    return Section(title + where, explanation, tables=[table], plots=[plot] if len(rows) > 1 else [])


def _needs(row: GroupRate) -> str:
    if row.judged:
        return ""
    if row.more_people_needed is None:
        return "cannot be estimated"
    return f"{count(row.more_people_needed)} more people"


def legislators_report(found: LegislatorsTest, face_pairs: Sequence[FacePair] = ()) -> StudyReport:
    """Return the test, beside the published ones."""
    groups = [
        _shares(at, attribute, shares)
        for at in found.thresholds
        for attribute, shares in at.groups.items()
        if at.falsely_matched
    ]
    similarities, _, matched = zip(*found.curve, strict=True)
    tens = [f"{n} at {s:g}" for s, n in zip(similarities, matched, strict=True) if s % 10 == 0]
    tests = ReportTable(
        "False matches",
        ("Test", "Falsely matched", "Rate", "Gallery", "Similarity", "People of colour"),
        [*(_own(found, at) for at in found.thresholds), *map(_published, found.published)],
        "; ".join(test.source for test in found.published),
    )
    review = ReportTable.of(
        "Faces to review",
        found.thresholds,
        {
            "Threshold": lambda at: at.name,
            "Officials with a candidate": lambda at: count(at.falsely_matched),
            "Candidates": lambda at: count(at.candidates),
            "Candidates shown": lambda at: count(at.shown),
        },
        f"At most {MAX_SHOWN} candidates are shown for a search.",
    )
    curve = partial(
        plots.lines, [("officials", similarities, matched)], "Least similarity", "Officials falsely matched"
    )
    return StudyReport(
        "The legislators test",
        f"{count(found.probes)} public officials searched in a gallery of {count(found.gallery)} strangers. "
        "Nobody in the gallery is one of them, so every candidate is a false match.",
        [
            (f"{at.falsely_matched} of {found.probes}", f"officials falsely matched at {at.name}")
            for at in found.thresholds
        ],
        [
            Section(
                "Beside the published tests",
                [
                    "The published tests used another model, another gallery and another scale: a similarity of 80 "
                    "there is not one of 80 here. What can be compared is the effect of the default setting on people.",
                    f"Nobody is falsely matched above similarity {found.clear_from:.1f} here. Twice as large a gallery "
                    "makes about twice as many false matches.",
                    f"Officials falsely matched, by similarity: {', '.join(tens)}.",
                    _police(found.moratorium),
                ],
                tables=[tests, review],
                plots=[Plot("Officials falsely matched, by least similarity", curve)],
            ),
            *([Section("By group", tables=groups)] if groups else []),
            *([Section("The false matches", face_pairs=face_pairs)] if face_pairs else []),
        ],
        (
            ("Model", found.model),
            ("Comparisons", count(found.comparisons)),
            ("Officials without a face found", count(found.probes_without_face)),
            ("Gallery photos without a face found", count(found.gallery_without_face)),
        ),
    )


def _own(found: LegislatorsTest, at: SearchAtThreshold) -> tuple[str, ...]:
    return (
        f"this deployment, at {at.name}",
        f"{at.falsely_matched} of {found.probes}",
        interval(at.rate),
        count(found.gallery),
        f"{at.similarity:g} (cosine {at.cosine:.3f})",
        _people_of_colour(at.groups.get("race", ())),
    )


def _published(test: PublishedTest) -> tuple[str, ...]:
    return (
        f"{test.year}, {test.by}",
        f"{test.falsely_matched} of {test.probes}",
        percent(test.falsely_matched / test.probes, 1),
        count(test.gallery),
        f"{test.similarity:g}, of the service then",
        "–"
        if test.share_of_false_matches is None
        else f"{percent(test.share_of_false_matches, 0)} of false matches, "
        f"{percent(test.share_of_probes or 0, 0)} of probes",
    )


def _shares(at: SearchAtThreshold, attribute: str, shares: Sequence[GroupShare]) -> ReportTable:
    note = ""
    if at.chance is not None and attribute == "race":
        note = (
            "The probability that people of colour get so large a part of the false matches by chance is "
            f"{at.chance:.2g}."
        )
    return ReportTable.of(
        f"By {attribute} at {at.name}",
        shares,
        {
            "Group": lambda g: g.group,
            "Probes": lambda g: count(g.probes),
            "Falsely matched": lambda g: count(g.falsely_matched),
            "Rate (95 %)": lambda g: interval(g.rate),
            "Share of probes": lambda g: percent(g.share_of_probes, 1),
            "Share of false matches": lambda g: (
                "–" if g.share_of_false_matches is None else percent(g.share_of_false_matches, 1)
            ),
        },
        note,
    )


def _police(search: PoliceSearch) -> str:
    decision = "permitted" if search.permitted else "denied"
    text = (
        f"A police search in an investigation is {decision} by the active flags ({search.flags_version}). "
        f"{search.reason} "
    )
    if search.min_similarity is None:
        return text + "The flags require no least similarity."
    text += "The flags require" if search.permitted else "Once the halt is lifted, the flags require"
    text += f" a similarity of at least {search.min_similarity:g}"
    return text + (f" and review by {search.human_review} people." if search.human_review else ".")


def _people_of_colour(shares: Sequence[GroupShare]) -> str:
    probes = sum(share.probes for share in shares)
    matched = sum(share.falsely_matched for share in shares)
    others = [share for share in shares if not is_white(share.group)]
    if not probes:
        return "–"
    part = percent(sum(share.probes for share in others) / probes, 0)
    if not matched:
        return f"no false match; {part} of probes"
    false_matches = percent(sum(share.falsely_matched for share in others) / matched, 0)
    return f"{false_matches} of false matches, {part} of probes"
