"""A collection made again with another model, the matches that this changes, and the switch of the two names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from abeyance.moving.calls import pages, require_collection
from abeyance.moving.columns import read_column
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
    found, made = require_collection(api, target)
    if made and found["FaceModelVersion"] == before["FaceModelVersion"]:
        api.delete_collection(CollectionId=target)
        raise MovingError(f"{collection} has the deployed model already")
    outcomes: dict[str, str] = {}
    for _ in range(MOST_RUNS):
        versions = set()
        for answer in pages(api, "reembed_faces", CollectionId=collection, TargetCollectionId=target):
            outcomes |= {one["FaceId"]: one["Outcome"] for one in answer["Outcomes"]}
            versions.add(answer["Version"])
            if "NextToken" in answer:
                advance(answer["NextToken"].partition(":")[0])
        if versions == {answer["Version"]}:
            return LevelCollections(
                collection,
                target,
                answer["Version"],
                answer["TargetVersion"],
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
    name, groups = read_column(path, "group", ("FaceId", "UserId", "ExternalImageId"))
    return lambda face: groups.get(face.get(name, ""), UNLABELLED)


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


def _spread(api: Any, collection: str, count: int) -> Iterator[Mapping[str, Any]]:
    """Return about ``count`` faces, as many of each part of the listing."""
    total = api.describe_collection(CollectionId=collection)["FaceCount"]
    listing = pages(api, "list_faces", CollectionId=collection, MaxResults=1000)
    faces = (face for page in listing for face in page["Faces"])
    return islice(islice(faces, 0, None, max(1, total // max(1, count))), count)


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
