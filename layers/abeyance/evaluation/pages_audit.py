"""What an audit and the legislators test look like on a page."""

from __future__ import annotations

from collections.abc import Sequence

from abeyance.evaluation import plots
from abeyance.evaluation.audit import Audit
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
)

_GROUPS = {
    "fmr": "False-match rate within the group",
    "fnmr": "False non-match rate",
    "failure_to_detect": "Share of photos without a face found",
}


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
