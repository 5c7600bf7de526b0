"""The projects that a grant covers, with their names if PostHog returns them."""

from __future__ import annotations

import pytest

from hogsend.contract.credentials import TokenReply
from hogsend.contract.errors import Unavailable
from hogsend.contract.provisioning import GrantedProject
from services.provisioner import granted_projects
from services.provisioner.granted_projects import ProjectNames
from tests.unit.provisioner.fakes import InMemoryProvisioner, compose


async def names(provisioner: InMemoryProvisioner) -> list[GrantedProject]:
    project_names = ProjectNames(provisioner.instance, provisioner.credentials, provisioner.http)
    return (await project_names.granted()).projects


def granted(*teams: int) -> InMemoryProvisioner:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=list(teams)
    )
    return provisioner


async def test_each_project_of_a_grant_is_listed_with_its_name() -> None:
    provisioner = granted(7, 8, 9)
    provisioner.posthog.refuse("GET", "/api/projects/7/", 200, {"id": 7, "name": "Shop"})
    provisioner.posthog.refuse("GET", "/api/projects/8/", 200, {"id": 8, "name": ["?"]})
    # A deleted project does not hide the others.
    provisioner.posthog.refuse("GET", "/api/projects/9/", 404, {"detail": "Not found."})
    assert await names(provisioner) == [
        GrantedProject(id="7", name="Shop"),
        GrantedProject(id="8"),
        GrantedProject(id="9"),
    ]


async def test_all_projects_are_listed_for_a_grant_without_limits() -> None:
    provisioner = granted()
    results = [{"id": 7, "name": "Shop"}, {"name": "of no id"}, {"id": 8, "name": "Blog"}]
    provisioner.posthog.refuse("GET", "/api/projects/\\?limit=100", 200, {"results": results})
    assert await names(provisioner) == [
        GrantedProject(id="7", name="Shop"),
        GrantedProject(id="8", name="Blog"),
    ]


@pytest.mark.parametrize("status", [403, 500])
async def test_projects_are_listed_without_names_when_posthog_refuses(status: int) -> None:
    provisioner = granted(7, 8)
    provisioner.posthog.refuse("GET", "/api/projects/", status)
    assert await names(provisioner) == [GrantedProject(id="7"), GrantedProject(id="8")]
    unlimited = granted()
    unlimited.posthog.refuse("GET", "/api/projects/", status)
    assert await names(unlimited) == []


async def test_projects_are_listed_without_names_when_posthog_hangs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(granted_projects, "DEADLINE_SECONDS", 0.01)
    provisioner = granted(7, 8)
    provisioner.posthog.hang()
    assert await names(provisioner) == [GrantedProject(id="7"), GrantedProject(id="8")]
    log = next(line for line in "".join(capsys.readouterr()).splitlines() if "not known" in line)
    assert "TimeoutError" in log


async def test_the_number_of_requested_project_names_is_limited() -> None:
    provisioner = granted(*range(1, 101))
    assert len(await names(provisioner)) == 100
    assert len(provisioner.posthog.requests) == granted_projects.MAX_NAMED


async def test_no_projects_are_requested_from_posthog_without_a_token() -> None:
    provisioner = compose()
    provisioner.credentials.token = TokenReply(source="none", version=1)
    assert await names(provisioner) == []
    provisioner.credentials.fail_all()
    with pytest.raises(Unavailable):
        await names(provisioner)
    assert provisioner.posthog.requests == []
