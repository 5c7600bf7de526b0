"""Endpoints and consumers of the analytics service."""

from __future__ import annotations

from nats.aio.msg import Msg

from hogsend.contract.audit import ADMIN_REQUEST_AUDITED
from hogsend.contract.base import Empty
from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES, Capabilities
from hogsend.contract.conditions import ANALYTICS_CONDITIONS, ConditionResults, EvaluateConditions
from hogsend.contract.contacts import ContactErased
from hogsend.contract.credentials import POSTHOG, CredentialChanged, Deleted
from hogsend.contract.dead_letters import MESSAGE_DEAD_LETTERED
from hogsend.contract.destinations import (
    ANALYTICS_CHANGE_DESTINATION,
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_DELETE_DESTINATION,
    ANALYTICS_DELIVERIES,
    ANALYTICS_ENGAGEMENT_READERS,
    ANALYTICS_EVENT_DELIVERIES,
    ANALYTICS_GET_DESTINATION,
    ANALYTICS_LIST_DESTINATIONS,
    ANALYTICS_TEST_DESTINATION,
    ChangeDestination,
    CreateDestination,
    DeliveryPage,
    DestinationPage,
    DestinationRef,
    EngagementReaders,
    EventDeliveries,
    EventDeliveriesOf,
    ListDeliveries,
    ListDestinations,
    OutboundDestination,
    TestQueued,
)
from hogsend.contract.engagement import ENGAGEMENT_REPORTED
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.contract.health import ANALYTICS_HEALTH, ServiceHealth
from hogsend.contract.notices import ANALYTICS_FAILING, FailingDeliveries
from hogsend.contract.persons import (
    ANALYTICS_DELETE_PERSON,
    ANALYTICS_PERSON,
    ANALYTICS_TIMEZONE,
    EVENT_CAPTURED,
    DeletePerson,
    GetPerson,
    GetTimezone,
    Person,
    PersonDeletion,
    Timezone,
)
from hogsend.contract.streams import StreamName
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.dead_letters import DeadLetters
from hogsend.service.health import HealthReporter
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter
from services.analytics.capabilities import CapabilityReport
from services.analytics.conditions.evaluation import Conditions
from services.analytics.delivery.destination_consumers import ANY_DESTINATION
from services.analytics.delivery.failing import FailingConsumers
from services.analytics.delivery.jetstream import consumer_config
from services.analytics.delivery.jetstream_message import wrap_messages
from services.analytics.delivery.runner import DeliveryRunner
from services.analytics.delivery.sources.buckets import BucketsSource
from services.analytics.delivery.sources.mirror import MirrorSource
from services.analytics.delivery.sources.persons import PersonsSource
from services.analytics.destinations.durable import destination_durable
from services.analytics.destinations.service import DestinationService
from services.analytics.destinations.store import DestinationStore
from services.analytics.flags.reader import FlagReader
from services.analytics.persons import deletion
from services.analytics.persons.reader import PersonReader
from services.analytics.persons.timezones import Timezones

router = ServiceRouter()
router.publishes(EVENT_CAPTURED, ENGAGEMENT_REPORTED, MESSAGE_DEAD_LETTERED, ADMIN_REQUEST_AUDITED)


# Persons and flags


@router.endpoint(ANALYTICS_PERSON)
async def person(request: GetPerson, persons: Injected[PersonReader]) -> Person:
    """Return a person's properties."""
    return Person(await persons.properties(request.distinct_id))


@router.endpoint(ANALYTICS_DELETE_PERSON)
async def delete_person(request: DeletePerson, persons: Injected[PersonReader]) -> PersonDeletion:
    """Delete a person in PostHog."""
    return await deletion.delete(persons, request.distinct_ids)


@router.endpoint(ANALYTICS_TIMEZONE)
async def timezone(request: GetTimezone, timezones: Injected[Timezones]) -> Timezone:
    """Find a person's time zone."""
    return await timezones.find(request)


@router.endpoint(ANALYTICS_CONDITIONS)
async def evaluate_conditions(
    request: EvaluateConditions, conditions: Injected[Conditions]
) -> ConditionResults:
    """Evaluate property conditions."""
    return ConditionResults(await conditions.evaluate(request.queries))


@router.endpoint(ANALYTICS_FLAGS)
async def evaluate_flags(request: GetFlags, flags: Injected[FlagReader]) -> Flags:
    """Evaluate feature flags."""
    return await flags.evaluate(request)


# Destinations


@router.endpoint(ANALYTICS_CREATE_DESTINATION)
async def create_destination(
    new: CreateDestination, destinations: Injected[DestinationService]
) -> OutboundDestination:
    """Create a destination."""
    return await destinations.create(new)


@router.endpoint(ANALYTICS_LIST_DESTINATIONS)
async def list_destinations(
    request: ListDestinations, destinations: Injected[DestinationService]
) -> DestinationPage:
    """List destinations."""
    return await destinations.page(request)


@router.endpoint(ANALYTICS_GET_DESTINATION)
async def get_destination(
    request: DestinationRef, destinations: Injected[DestinationService]
) -> OutboundDestination:
    """Show a destination."""
    return await destinations.get(request)


@router.endpoint(ANALYTICS_CHANGE_DESTINATION)
async def change_destination(
    request: ChangeDestination, destinations: Injected[DestinationService]
) -> OutboundDestination:
    """Change a destination."""
    return await destinations.change(request)


@router.endpoint(ANALYTICS_DELETE_DESTINATION)
async def delete_destination(
    request: DestinationRef, destinations: Injected[DestinationService]
) -> Deleted:
    """Delete a destination."""
    return await destinations.delete(request)


@router.endpoint(ANALYTICS_TEST_DESTINATION)
async def send_test_event(
    request: DestinationRef, destinations: Injected[DestinationService]
) -> TestQueued:
    """Queue a test event for a destination."""
    return await destinations.test(request)


@router.endpoint(ANALYTICS_DELIVERIES)
async def list_deliveries(
    request: ListDeliveries, destinations: Injected[DestinationService]
) -> DeliveryPage:
    """List a destination's delivery history."""
    return await destinations.deliveries(request)


@router.endpoint(ANALYTICS_EVENT_DELIVERIES)
async def event_deliveries(
    request: EventDeliveriesOf, store: Injected[DestinationStore]
) -> EventDeliveries:
    """List the deliveries of one event."""
    return await store.event_deliveries(request.event_ids)


@router.endpoint(ANALYTICS_ENGAGEMENT_READERS)
async def engagement_readers(
    _request: Empty, destinations: Injected[DestinationService]
) -> EngagementReaders:
    """Return the durables whose consumers the stream keeps engagement for."""
    buckets = BucketsSource.subscription.durable
    return EngagementReaders([buckets, *map(destination_durable, await destinations.ids())])


@router.endpoint(ANALYTICS_FAILING)
async def failing_deliveries(
    _request: Empty, failing: Injected[FailingConsumers], store: Injected[DestinationStore]
) -> FailingDeliveries:
    """List failing deliveries."""
    return await failing.list(store)


# Delivery to PostHog: these consumers run only in the leading replica


@router.batches(StreamName.PERSONS, consumer_config(PersonsSource.subscription), auto_start=False)
async def deliver_persons(
    messages: list[Msg], delivery: Injected[DeliveryRunner], dead_letters: Injected[DeadLetters]
) -> None:
    """Send captures, person writes and aliases that services publish."""
    await delivery.enqueue(wrap_messages(messages, dead_letters))


@router.batches(
    StreamName.ENGAGEMENT, consumer_config(BucketsSource.subscription), auto_start=False
)
async def deliver_buckets(
    messages: list[Msg], delivery: Injected[DeliveryRunner], dead_letters: Injected[DeadLetters]
) -> None:
    """Send bucket memberships as person properties."""
    await delivery.enqueue(wrap_messages(messages, dead_letters))


@router.batches(StreamName.ENGAGEMENT, consumer_config(ANY_DESTINATION), auto_start=False)
async def deliver_engagement(
    messages: list[Msg], delivery: Injected[DeliveryRunner], dead_letters: Injected[DeadLetters]
) -> None:
    """Send engagement to a destination; each destination has its own consumer."""
    await delivery.enqueue(wrap_messages(messages, dead_letters))


@router.batches(StreamName.EVENTS, consumer_config(MirrorSource.subscription), auto_start=False)
async def deliver_mirrored_events(
    messages: list[Msg], delivery: Injected[DeliveryRunner], dead_letters: Injected[DeadLetters]
) -> None:
    """Send the events that are mirrored."""
    await delivery.enqueue(wrap_messages(messages, dead_letters))


DELIVERIES = (deliver_persons, deliver_buckets, deliver_engagement, deliver_mirrored_events)


@router.erasures()
async def forget_person(erased: ContactErased, persons: Injected[PersonReader]) -> None:
    """Drop what is cached of an erased person; another replica deletes the person in PostHog."""
    persons.forget(erased.user_ids, erased.erased_at)


# The service itself


@router.credential_changes(POSTHOG)
async def credential_changed(
    change: CredentialChanged, watcher: Injected[CredentialWatcher]
) -> None:
    """Invalidate everything that was read with the previous credential."""
    watcher.changed(change)


@router.endpoint(ANALYTICS_CAPABILITIES)
async def capabilities(_request: Empty, report: Injected[CapabilityReport]) -> Capabilities:
    """Report which capabilities work, and why the others do not."""
    return await report.capabilities()


@router.endpoint(ANALYTICS_HEALTH)
async def health(_request: Empty, reporter: Injected[HealthReporter]) -> ServiceHealth:
    """Report this replica's health."""
    return await reporter.report()
