"""A collection made again with another model, the matches that this changes, and the switch of the two names."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.moving.errors import MovingError

#: Runs after which a collection that keeps changing is left for another time.
MOST_RUNS: Final = 4
#: The group of faces without a label.
UNLABELLED: Final = ""


class LevelCollections(msgspec.Struct, frozen=True):
    """Two collections as they were when the second was level with the first."""

    collection: str
    target: str
    version: str
    target_version: str
    #: Faces of each.
    faces: int
    target_faces: int
    #: Faces that the target lacked, by what became of them, of all runs of this call.
    outcomes: dict[str, int]


class ChangedMatches(msgspec.Struct, frozen=True):
    """The matches of some probes that two collections do not have in common, at one threshold."""

    group: str
    threshold: float
    probes: int = 0
    #: Probes with a match that only one has.
    changed: int = 0
    #: Pairs that match in the collection and not in the target, and those among them of one user.
    lost: int = 0
    lost_same_user: int = 0
    #: Pairs that match in the target only, and those among them of two different users.
    gained: int = 0
    gained_other_user: int = 0


def level(
    api: Any, collection: str, target: str, *, advance: Callable[[str], None] = lambda _: None
) -> LevelCollections:
    """Make the target level with the collection; create it, with the deployed model, if it is missing.

    It can be called again after an interruption, and goes on until a whole run has met no change of the collection.

    Parameters
    ----------
    advance
        Called after each request with the listing that is gone through.

    Raises
    ------
    MovingError
        The collection keeps changing, or has the deployed model already.
    """
    before = api.describe_collection(CollectionId=collection)
    try:
        api.describe_collection(CollectionId=target)
    except api.exceptions.ResourceNotFoundException:
        made = api.create_collection(CollectionId=target)
        if made["FaceModelVersion"] == before["FaceModelVersion"]:
            api.delete_collection(CollectionId=target)
            raise MovingError(f"{collection} has the deployed model already") from None
    outcomes: dict[str, str] = {}
    for _ in range(MOST_RUNS):
        answers = list(_run(api, collection, target, advance))
        for answer in answers:
            outcomes |= {one["FaceId"]: one["Outcome"] for one in answer["Outcomes"]}
        version = answers[-1]["Version"]
        if {answer["Version"] for answer in answers} == {version}:
            return LevelCollections(
                collection,
                target,
                version,
                answers[-1]["TargetVersion"],
                api.describe_collection(CollectionId=collection)["FaceCount"],
                api.describe_collection(CollectionId=target)["FaceCount"],
                dict(sorted(Counter(outcomes.values()).items())),
            )
    raise MovingError(f"{collection} changed during each run; repeat it when fewer write to it")


def switch(api: Any, level_now: LevelCollections, *, accept_missing: bool = False) -> dict[str, str]:
    """Let the two collections have each other's name; the same again switches back.

    Raises
    ------
    MovingError
        The target lacks faces, and that was not accepted; or one of the two changed meanwhile.
    """
    missing = level_now.faces - level_now.target_faces
    if missing and not accept_missing:
        raise MovingError(
            f"{level_now.target} lacks {missing} faces, whose templates could not be made; to switch all the same, "
            "add --accept-missing"
        )
    try:
        answer: Mapping[str, str] = api.switch_collections(
            CollectionId=level_now.collection,
            TargetCollectionId=level_now.target,
            Version=level_now.version,
            TargetVersion=level_now.target_version,
        )
    except api.exceptions.ConflictException:
        raise MovingError("one of the collections changed meanwhile; switch again") from None
    return {
        "collection": level_now.collection,
        "model": answer["FaceModelVersion"],
        "former": level_now.target,
        "former_model": answer["FormerFaceModelVersion"],
    }


def read_labels(path: Path) -> Callable[[Mapping[str, Any]], str]:
    """Return the group of a face, from a CSV with the column ``group`` and one of FaceId, UserId, ExternalImageId."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or ()
        names = [name for name in ("FaceId", "UserId", "ExternalImageId") if name in columns]
        if len(names) != 1 or "group" not in columns:
            raise MovingError(f"{path} needs the column group, and one of FaceId, UserId, ExternalImageId")
        groups = {row[names[0]]: row["group"] or UNLABELLED for row in rows}
    return lambda face: groups.get(face.get(names[0], ""), UNLABELLED)


def changed_matches(
    api: Any,
    collection: str,
    target: str,
    *,
    probes: int,
    thresholds: Sequence[float],
    group_of: Callable[[Mapping[str, Any]], str] = lambda _: UNLABELLED,
    advance: Callable[[int], None] = lambda _: None,
) -> list[ChangedMatches]:
    """Search with faces of the target in both, and count the matches that change, by group and threshold.

    Parameters
    ----------
    probes
        Number of faces, spread over the target.
    thresholds
        FaceMatchThreshold, 0 to 100, each; similarity has the same meaning in both, so the same ones are compared.
    group_of
        The label of a probe; see :func:`read_labels`. Where there are labels, all probes together are a group ``all``.
    """
    counts: dict[tuple[str, float], Counter[str]] = {}
    lowest = min(thresholds)
    for number, probe in enumerate(_spread(api, target, probes), 1):
        matches = [_matches(api, name, probe["FaceId"], lowest) for name in (collection, target)]
        for threshold in thresholds:
            before, after = (
                {face_id: user for face_id, (similarity, user) in found.items() if similarity >= threshold}
                for found in matches
            )
            counted = _count(probe.get("UserId", ""), before, after)
            for group in {"all", group_of(probe) or "all"}:
                counts.setdefault((group, threshold), Counter()).update(counted)
        advance(number)
    return [ChangedMatches(group, at, **dict(counts[group, at])) for group, at in sorted(counts)]


def _run(
    api: Any, collection: str, target: str, advance: Callable[[str], None]
) -> Iterator[Mapping[str, Any]]:
    request = {"CollectionId": collection, "TargetCollectionId": target}
    while True:
        answer = api.reembed_faces(**request)
        yield answer
        if "NextToken" not in answer:
            return
        request["NextToken"] = answer["NextToken"]
        advance(answer["NextToken"].partition(":")[0])


def _spread(api: Any, collection: str, count: int) -> Iterator[Mapping[str, Any]]:
    """Yield about ``count`` faces, as many of each part of the listing."""
    total = api.describe_collection(CollectionId=collection)["FaceCount"]
    step, number, given = max(1, total // max(1, count)), 0, 0
    request: dict[str, Any] = {"CollectionId": collection, "MaxResults": 1000}
    while given < count:
        page = api.list_faces(**request)
        for face in page["Faces"]:
            if number % step == 0 and given < count:
                given += 1
                yield face
            number += 1
        if "NextToken" not in page:
            return
        request["NextToken"] = page["NextToken"]


def _matches(api: Any, collection: str, face_id: str, threshold: float) -> dict[str, tuple[float, str]]:
    """Return similarity and user of each match by its face."""
    answer = api.search_faces(
        CollectionId=collection, FaceId=face_id, FaceMatchThreshold=threshold, MaxFaces=4096
    )
    return {
        one["Face"]["FaceId"]: (one["Similarity"], one["Face"].get("UserId", ""))
        for one in answer["FaceMatches"]
    }


def _count(user: str, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, int]:
    lost = [before[face_id] for face_id in before.keys() - after.keys()]
    gained = [after[face_id] for face_id in after.keys() - before.keys()]
    return {
        "probes": 1,
        "changed": int(bool(lost or gained)),
        "lost": len(lost),
        "lost_same_user": sum(bool(user) and other == user for other in lost),
        "gained": len(gained),
        "gained_other_user": sum(bool(user and other) and other != user for other in gained),
    }
