"""What is kept of the project that was provisioned: its capture key, id and host (contract 1.2)."""

from __future__ import annotations

import msgspec
import structlog

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import HogsendError
from hogsend.posthog.api import Project
from hogsend.service import metrics
from services.provisioner.credentials import Credentials

log = structlog.get_logger(__name__)


async def keep(credentials: Credentials, project: Project, private_host: str) -> None:
    """Merge the project into the stored derived payload; nothing when it has no `api_token`.

    It is an extra that never fails a run: PostHog delivers without it, and the next run tries
    again. A row that cannot be read is left as it is. It may hold a minted secret, which becomes
    readable again with the sealing secret it was sealed with; overwriting it would lose that.
    """
    if project.api_token is None:
        return
    try:
        stored = await credentials.derived()
        if stored.state == "unreadable":
            log.warning("project not kept: the stored derived credential cannot be decrypted")
            return
        before = stored.payload or DerivedPayload()
        after = msgspec.structs.replace(
            before,
            project_api_key=project.api_token,
            project_id=project.id,
            private_host=private_host,
        )
        # Each write is a credential event, and every consumer asks again after one.
        if after != before:
            await credentials.store_derived(after)
    except HogsendError as error:
        metrics.FAILURES.labels("project_record", error.code).inc()
        log.warning("project not kept", reason=str(error))
