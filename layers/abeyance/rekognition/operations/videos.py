"""StartFaceDetection, GetFaceDetection, StartFaceSearch, GetFaceSearch: jobs on stored video."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from abeyance.gallery.model import CollectionRef
from abeyance.gallery.paging import page_of, page_start
from abeyance.pipeline import events
from abeyance.pipeline.events import FaceAttributes, Judgement
from abeyance.pipeline.findings import FaceSample
from abeyance.pipeline.jobs import JobState, VideoJob, new_id
from abeyance.pipeline.topology import FRAMES, NO_COLLECTION
from abeyance.rekognition.call import Call
from abeyance.rekognition.facedetail import detected_members
from abeyance.rekognition.operations.services import Services, deployed_model, wire_face
from abeyance.rekognition.wire import single

#: Most items of a page, and the default.
PAGE: Final = 1000
#: Rekognition's names of the containers.
FORMATS: Final = {"mov": "QuickTime / MOV", "matroska": "Matroska / WebM"}


def start_face_detection(call: Call, services: Services) -> dict[str, Any]:
    """Start finding the faces of a stored video."""
    wants_all = call.params.get("FaceAttributes", "DEFAULT") == "ALL"
    return _start(
        call, services, "StartFaceDetection", action="analyze", collection=NO_COLLECTION, attributes=wants_all
    )


def start_face_search(call: Call, services: Services) -> dict[str, Any]:
    """Start searching a collection for the people of a stored video."""
    deployed_model(call, services)
    return _start(
        call,
        services,
        "StartFaceSearch",
        action="search",
        collection=call.params["CollectionId"],
        face_match_threshold=call.params.get("FaceMatchThreshold"),
    )


def get_face_detection(call: Call, services: Services) -> dict[str, Any]:
    """Return the faces of a stored video by time, up to where it was permitted."""
    job = services.videos.find(call.params["JobId"], "StartFaceDetection", call.grant.tenant)
    state, _ = services.videos.state(job)
    faces: list[dict[str, Any]] = []
    if state.result is not None:
        samples = [one for person in services.videos.people(job) for one in person.samples]
        samples.sort(key=lambda one: one.time_ms)
        faces = [{"Timestamp": one.time_ms, "Face": _face_detail(one)} for one in samples]
    return _answer(call, job, state, "Faces", faces)


def get_face_search(call: Call, services: Services) -> dict[str, Any]:
    """Return the people of a stored video by time or by person, each with the faces that match."""
    job = services.videos.find(call.params["JobId"], "StartFaceSearch", call.grant.tenant)
    state, recorded = services.videos.state(job)
    persons: list[dict[str, Any]] = []
    detected = recorded.get(FRAMES.name)
    if state.result is not None and isinstance(detected, events.FacesDetected):
        matches = _matches(job, services, state)
        for index, person in enumerate(services.videos.people(job)):
            found = matches.get(detected.faces[index].chip, [])
            persons += [_person_match(index, sample, found) for sample in person.samples]
        if call.params.get("SortBy", "TIMESTAMP") == "TIMESTAMP":
            persons.sort(key=lambda one: one["Timestamp"])
    return _answer(call, job, state, "Persons", persons)


def _start(call: Call, services: Services, operation: str, **asked: Any) -> dict[str, Any]:
    tenant, params = call.grant.tenant, call.params
    job = VideoJob(
        id=new_id(),
        operation=operation,
        tenant=tenant,
        source=services.videos.source(params["Video"], tenant),
        purpose=call.request.purpose,
        authorization=call.request.authorization,
        search=call.grant.search,
        started=time.time(),
        tag=params.get("JobTag", ""),
        topic=services.videos.topic(params.get("NotificationChannel"), tenant),
        **asked,
    )
    return {"JobId": services.videos.start(job, params.get("ClientRequestToken", "")).id}


def _answer(
    call: Call, job: VideoJob, state: JobState, name: str, items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return one page of a job's items, with what every such answer has."""
    listing = f"{job.id}/{call.params.get('SortBy', '')}"
    start = int(page_start(listing, call.params.get("NextToken", "")) or 0)
    limit = min(PAGE, call.params.get("MaxResults", PAGE))
    numbers = [str(number + 1) for number in range(start, len(items))]
    page = page_of(listing, items[start:], numbers, limit)
    opened = state.opened
    return {
        "JobStatus": state.status,
        "StatusMessage": state.message or None,
        "VideoMetadata": _metadata(opened.video) if opened else None,
        name: list(page.items),
        "NextToken": page.next_token or None,
        "JobId": job.id,
        "Video": {
            "S3Object": {
                "Bucket": job.source.bucket,
                "Name": job.source.key,
                "Version": job.source.version if job.source.version != job.source.etag else None,
            }
        },
        "JobTag": job.tag or None,
    }


def _metadata(video: events.Video) -> dict[str, Any]:
    return {
        "Codec": video.codec,
        "DurationMillis": video.duration_ms,
        "Format": FORMATS[video.container],
        "FrameRate": single(video.frame_rate),
        "FrameHeight": video.height,
        "FrameWidth": video.width,
    }


def _matches(job: VideoJob, services: Services, state: JobState) -> dict[int, list[dict[str, Any]]]:
    """Return the FaceMatches of each searched person, by the person's row in the chips file."""
    if not isinstance(state.result, events.FacesMatched | events.MatchesReleased):
        return {}
    ref = CollectionRef(job.tenant, job.collection)
    ids = sorted({match.face_id for face in state.result.faces for match in face.matches})
    known = {face.id: wire_face(face) for face in services.gallery.get_faces(ref, ids)} if ids else {}
    return {
        face.face.chip: [
            {"Similarity": single(match.similarity), "Face": known[match.face_id]}
            for match in face.matches
            if match.face_id in known
        ]
        for face in state.result.faces
    }


def _person_match(index: int, sample: FaceSample, found: list[dict[str, Any]]) -> dict[str, Any]:
    detail = _face_detail(sample)
    return {
        "Timestamp": sample.time_ms,
        "Person": {"Index": index, "BoundingBox": detail["BoundingBox"], "Face": detail},
        "FaceMatches": found,
    }


def _face_detail(sample: FaceSample) -> dict[str, Any]:
    """Return a FaceDetail of a sample, in single precision."""
    detail = detected_members(sample.box, sample.landmarks, sample.quality, sample.confidence)
    return {**detail, **_attributes(sample.attributes)} if sample.attributes else detail


def _attributes(found: FaceAttributes) -> dict[str, Any]:
    members: dict[str, Any] = {
        "Smile": _flag(found.smile),
        "MouthOpen": _flag(found.mouth_open),
        "EyesOpen": _flag(found.eyes_open),
    }
    if found.age_range:
        members["AgeRange"] = {"Low": found.age_range[0], "High": found.age_range[1]}
    if found.gender:
        members["Gender"] = {"Value": found.gender.value, "Confidence": single(found.gender.confidence)}
    if found.emotions:
        ranked = sorted(found.emotions.items(), key=lambda pair: -pair[1])
        members["Emotions"] = [{"Type": name, "Confidence": single(share)} for name, share in ranked]
    return {name: value for name, value in members.items() if value is not None}


def _flag(answer: Judgement | None) -> dict[str, Any] | None:
    return {"Value": answer.value == "true", "Confidence": single(answer.confidence)} if answer else None
