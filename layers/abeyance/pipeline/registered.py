"""Buckets that tenants registered for uploads: tenant, action and collection of an object by a version of the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from abeyance.moratorium.buckets import BucketRegistration
from abeyance.pipeline.events import Upload
from abeyance.pipeline.uploads import S3Notification, derive


class AssignedNotification(NamedTuple):
    """A notification whose upload has its tenant, action and collection, and the purpose that the rule names."""

    notification: S3Notification
    purpose: str = ""


def _none(bucket: str) -> Sequence[BucketRegistration]:
    return ()


class RegisteredBuckets:
    """The rules of registered buckets, as every stage applies them itself.

    Parameters
    ----------
    read
        Returns every version of a bucket's rules, the one in force last, as
        :meth:`abeyance.moratorium.tenants.TenantTable.registrations` does. It raises what the table raises.
    """

    def __init__(self, read: Callable[[str], Sequence[BucketRegistration]] = _none) -> None:
        self._read = read
        #: Versions never change, so those that were read serve for good.
        self._versions: dict[tuple[str, int], BucketRegistration] = {}

    def assign(self, notification: S3Notification) -> AssignedNotification | None:
        """Return the notification by the rules in force; None for an object that no rule is or ever was about.

        An object whose rule was taken away counts as deleted when it is written over, so that what came from it goes.
        """
        upload = notification.upload
        history = self._read(upload.bucket)
        assigned = [found for one in history if (found := _assigned(upload, one))]
        if not assigned:
            return None
        last = assigned[-1]
        if last.registration == history[-1].version:
            rule = history[-1].rule_for(upload.key)
            return AssignedNotification(notification._replace(upload=last), rule.purpose if rule else "")
        # With its version and ETag, so that it is the same upload for a delivery that finds it registered.
        return AssignedNotification(S3Notification(last, is_deletion=True))

    def derive(self, upload: Upload) -> Upload:
        """Return the upload with tenant, action and collection of its place; none where it has none.

        A pure function of bucket, key and the version of the registration.
        """
        if not upload.registration:
            return derive(upload)
        name = upload.bucket, upload.registration
        if name not in self._versions:
            self._versions |= {(one.bucket, one.version): one for one in self._read(upload.bucket)}
        version = self._versions.get(name)
        assigned = _assigned(upload, version) if version else None
        return assigned or msgspec.structs.replace(upload, tenant="", action="", collection="")

    def holds(self, upload: Upload) -> bool:
        """Return whether the rules in force still say the same of the upload."""
        if not upload.registration:
            return True
        history = self._read(upload.bucket)
        now = _assigned(upload, history[-1]) if history else None
        return now is not None and _place(now) == _place(upload)

    def others(self, upload: Upload) -> list[Upload]:
        """Return the upload as other versions of the rules have it, each tenant, action and collection once."""
        if not upload.registration:
            return []
        assigned = [_assigned(upload, one) for one in self._read(upload.bucket)]
        others = {_place(one): one for one in assigned if one and _place(one) != _place(upload)}
        return list(others.values())


def _assigned(upload: Upload, registration: BucketRegistration) -> Upload | None:
    rule = registration.rule_for(upload.key)
    if rule is None:
        return None
    return msgspec.structs.replace(
        upload,
        tenant=registration.tenant,
        action=rule.action,
        collection=rule.collection,
        registration=registration.version,
    )


def _place(upload: Upload) -> tuple[str, str, str]:
    return upload.tenant, upload.action, upload.collection
