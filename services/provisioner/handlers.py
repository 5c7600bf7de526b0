"""Endpoints of the provisioner, and its subscription to credential changes."""

from __future__ import annotations

from hogsend.contract.audit import ADMIN_REQUEST_AUDITED
from hogsend.contract.backfills import (
    PROVISIONER_BACKFILL,
    PROVISIONER_BACKFILLS,
    PROVISIONER_CANCEL_BACKFILL,
    Backfill,
    BackfillList,
    BackfillRef,
    BackfillReply,
    StartBackfill,
)
from hogsend.contract.base import Empty
from hogsend.contract.credentials import POSTHOG, CredentialChanged
from hogsend.contract.health import PROVISIONER_HEALTH, ServiceHealth
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    PROVISIONER_PROJECTS,
    PROVISIONER_PROVISION,
    Diagnosis,
    GrantedProjects,
    ProvisionLoop,
    ProvisionReply,
)
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.health import HealthReporter
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter
from services.provisioner.backfill.backfills import Backfills
from services.provisioner.destination.provisioning import Provisioning
from services.provisioner.diagnosis.diagnostics import Diagnostics
from services.provisioner.granted_projects import ProjectNames

router = ServiceRouter()
router.publishes(ADMIN_REQUEST_AUDITED)


@router.endpoint(PROVISIONER_PROVISION)
async def provision(request: ProvisionLoop, provisioning: Injected[Provisioning]) -> ProvisionReply:
    """Make PostHog deliver to this instance."""
    return await provisioning.run(request)


@router.endpoint(PROVISIONER_PROJECTS)
async def projects(_request: Empty, names: Injected[ProjectNames]) -> GrantedProjects:
    """List the projects that the grant covers."""
    return await names.granted()


@router.endpoint(PROVISIONER_DIAGNOSE)
async def diagnose(_request: Empty, diagnostics: Injected[Diagnostics]) -> Diagnosis:
    """Diagnose the integration."""
    return await diagnostics.run()


@router.endpoint(PROVISIONER_BACKFILL)
async def backfill(request: StartBackfill, backfills: Injected[Backfills]) -> BackfillReply:
    """Start or resume a backfill."""
    return await backfills.start(request)


@router.endpoint(PROVISIONER_BACKFILLS)
async def backfills(_request: Empty, backfills: Injected[Backfills]) -> BackfillList:
    """List the latest backfills."""
    return await backfills.latest()


@router.endpoint(PROVISIONER_CANCEL_BACKFILL)
async def cancel_backfill(request: BackfillRef, backfills: Injected[Backfills]) -> Backfill:
    """Cancel a backfill."""
    return await backfills.cancel(request.id)


@router.endpoint(PROVISIONER_HEALTH)
async def health(_request: Empty, reporter: Injected[HealthReporter]) -> ServiceHealth:
    """Report this replica's health."""
    return await reporter.report()


@router.credential_changes(POSTHOG)
async def credential_changed(
    change: CredentialChanged, watcher: Injected[CredentialWatcher]
) -> None:
    """Drop the cached bearer."""
    watcher.changed(change)
