"""Stores the provisioned project: its capture key, id and host (contract 1.2)."""

from __future__ import annotations

import msgspec
import structlog

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import GrantReplaced, HogsendError
from hogsend.posthog.api import Project
from hogsend.service import metrics
from services.provisioner.destination.minted_secret import DerivedStore

log = structlog.get_logger(__name__)


async def save(credentials: DerivedStore, project: Project, private_host: str) -> None:
    """Merge the project into the stored derived payload; no effect without an `api_token`.

    A failure to save does not fail the run: PostHog delivers without the record, and the next run
    tries again. An unreadable payload is not overwritten: it may contain a generated secret, which
    can be read again once its sealing secret is configured.

    Raises:
        GrantReplaced: the stored grant is not the one that the project belongs to.
    """
    if project.api_token is None:
        return
    try:
        stored = await credentials.derived()
        if stored.state == "unreadable":
            log.warning("project not saved: the stored derived credential cannot be decrypted")
            return
        before = stored.payload or DerivedPayload()
        after = msgspec.structs.replace(
            before,
            project_api_key=project.api_token,
            project_id=project.id,
            private_host=private_host,
        )
        # Each write publishes a credential change, after which every service reads it again.
        if after != before:
            await credentials.store_derived(after)
    except GrantReplaced:
        raise
    except HogsendError as error:
        metrics.FAILURES.labels("project_record", error.code).inc()
        log.warning("project not saved", reason=str(error))
