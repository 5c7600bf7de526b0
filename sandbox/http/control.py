"""Routes below `/_sandbox/`, which inspect and control the sandbox. PostHog has none of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, get, post, put
from litestar.di import NamedDependency
from msgspec import Meta

from hogsend.contract.json_text import NOT_JSON
from sandbox.clock import iso
from sandbox.delivery.deliveries import Delivery
from sandbox.errors import invalid
from sandbox.faults import Area, Fault
from sandbox.flags import Flag
from sandbox.functions.inputs import shown_inputs
from sandbox.functions.model import HogFunction
from sandbox.ingestion.events import CapturedEvent
from sandbox.ingestion.people import Person
from sandbox.instance import Instance
from sandbox.oauth.grants import Counts

AnyRequest = Request[Any, Any, Any]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The add-ons of the organization."""

    data_pipelines: bool


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the webhook template can sign."""

    signing: bool


class Watcher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State that PostHog's watcher gives all functions."""

    state: Literal[1, 2, 3, 11, 12]
    """1 healthy, 2 degraded, 3 disabled, 11 degraded and 12 disabled by PostHog's staff."""


class Advance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Number of seconds to advance the clock by."""

    seconds: Annotated[float, Meta(ge=0)]


class Now(msgspec.Struct, frozen=True):
    """The sandbox's time."""

    now: str


class Captured(msgspec.Struct, frozen=True):
    """Number of distinct captured events, and of events with an unknown project key."""

    events: int
    dropped: int


class FunctionState(msgspec.Struct, frozen=True):
    """A function. Headers are listed by name only, because their values are often secret."""

    id: str
    name: str | None
    type: str
    enabled: bool
    template_id: str | None
    url: str | None
    header_names: list[str]
    filters: dict[str, Any]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the sandbox, without tokens."""

    now: str
    data_pipelines: bool
    events: list[CapturedEvent]
    events_dropped: int
    persons: list[Person]
    functions: list[FunctionState]
    deliveries: list[Delivery]
    oauth: Counts
    flags: list[Flag]
    faults: dict[Area, Fault]


class ControlController(Controller):
    """Routes without authentication that only the sandbox has."""

    path = "/_sandbox"

    @get("/state", sync_to_thread=False)
    def state(self, instance: NamedDependency[Instance]) -> State:
        """Return events, persons, functions, deliveries and counts. PostHog has no such route."""
        return State(
            now=iso(instance.clock.now()),
            data_pipelines=instance.functions.data_pipelines,
            events=list(instance.pipeline.events.values()),
            events_dropped=instance.pipeline.dropped,
            persons=instance.people.all(),
            functions=[_function(function) for function in instance.functions.all()],
            deliveries=instance.deliveries.all,
            oauth=instance.grants.counts,
            flags=instance.flags.all,
            faults=instance.faults.by_area,
        )

    @get("/captured", sync_to_thread=False)
    def captured(self, instance: NamedDependency[Instance]) -> Captured:
        """Count the events captured since the start. PostHog has no such route."""
        return Captured(instance.pipeline.captured, instance.pipeline.dropped)

    @put("/faults")
    async def set_faults(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> dict[Area, Fault]:
        """Replace all faults; `{}` removes them. PostHog has no such route."""
        instance.faults.replace(await _decoded(request, dict[Area, Fault]))
        return instance.faults.by_area

    @put("/flags")
    async def set_flags(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> list[Flag]:
        """Replace all feature flags. PostHog has them in its own API."""
        instance.flags.all = await _decoded(request, list[Flag])
        return instance.flags.all

    @put("/plan")
    async def set_plan(self, request: AnyRequest, instance: NamedDependency[Instance]) -> Plan:
        """Change the organization's add-ons. PostHog has no such route."""
        plan: Plan = await _decoded(request, Plan)
        instance.functions.data_pipelines = plan.data_pipelines
        return plan

    @put("/webhooks")
    async def set_webhooks(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Webhooks:
        """Change whether webhooks can be signed, as an upgrade of PostHog does."""
        webhooks: Webhooks = await _decoded(request, Webhooks)
        instance.functions.signing = webhooks.signing
        return webhooks

    @put("/watcher")
    async def set_watcher(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Watcher:
        """Set the watcher's state. Disabled functions deliver nothing until one is saved."""
        watcher: Watcher = await _decoded(request, Watcher)
        instance.functions.watcher_state = watcher.state
        return watcher

    @post("/clock", status_code=200)
    async def advance_clock(self, request: AnyRequest, instance: NamedDependency[Instance]) -> Now:
        """Advance the clock: tokens expire, retries are due. PostHog has no such route."""
        step: Advance = await _decoded(request, Advance)
        instance.clock.advance(step.seconds)
        return Now(iso(instance.clock.now()))

    @post("/reset", status_code=204)
    async def reset(self, instance: NamedDependency[Instance]) -> None:
        """Delete all state. PostHog has no such route."""
        await instance.reset()


def _function(function: HogFunction) -> FunctionState:
    shown = shown_inputs(function.inputs_schema, function.inputs)
    url = shown["url"].value if "url" in shown else None
    headers = shown["headers"].value if "headers" in shown else None
    return FunctionState(
        id=function.id,
        name=function.name,
        type=function.type,
        enabled=function.enabled,
        template_id=function.template_id,
        url=url if isinstance(url, str) else None,
        header_names=sorted(headers) if isinstance(headers, dict) else [],
        filters=function.filters,
    )


async def _decoded(request: AnyRequest, type: Any) -> Any:
    try:
        return msgspec.json.decode(await request.body(), type=type)
    except NOT_JSON as error:
        raise invalid(str(error)) from error
