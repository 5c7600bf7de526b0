"""Stores destinations and their delivery history in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiosql
import asyncpg
import msgspec

from hogsend.contract.base import Properties
from hogsend.contract.destinations import (
    CreateDestination,
    Delivered,
    DeliveryPage,
    DeliveryStatus,
    DestinationPage,
    EventDeliveries,
    EventDelivery,
    ListDeliveries,
    ListDestinations,
    Retrying,
)
from hogsend.contract.errors import InvalidRequest, NotFound, Unavailable
from hogsend.service.database import Database
from hogsend.service.nul import text_without_nul
from services.analytics.destinations.durable import destination_durable
from services.analytics.destinations.model import Destination, read_config

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")

KEPT_DELIVERIES = 1000
"""Rows of history that are kept for each destination; older rows are deleted."""

Edit = Callable[[Destination], Destination]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the delivery of one event to one destination ended."""

    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    response_status: int | None = None
    error: str | None = None


class DestinationStore:
    """Tables of the `analytics` schema.

    Every method raises `Unavailable` while PostgreSQL cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Destination]:
        """Return all destinations, oldest first."""
        async with self._connection() as connection:
            return [_destination(row) async for row in _queries.all_destinations(connection)]

    async def page(self, request: ListDestinations) -> DestinationPage:
        """List destinations, with their keys masked."""
        async with self._connection() as connection:
            total = await _queries.total(connection, include_disabled=request.include_disabled)
            rows = _queries.page(
                connection,
                include_disabled=request.include_disabled,
                limit=request.limit,
                offset=request.offset,
            )
            shown = [_destination(row).masked() async for row in rows]
        return DestinationPage(
            webhooks=shown, total=total, limit=request.limit, offset=request.offset
        )

    async def get(self, id: UUID) -> Destination:
        """Return one destination.

        Raises:
            NotFound: there is no such destination.
        """
        async with self._connection() as connection:
            return _destination(_required(await _queries.get(connection, id=id)))

    async def create(
        self,
        new: CreateDestination,
        *,
        is_default: bool = False,
        max_destinations: int | None = None,
    ) -> Destination:
        """Store a new destination.

        Raises:
            InvalidRequest: there are `max_destinations` already.
        """
        async with self._connection() as connection:
            if max_destinations is not None:
                await _queries.lock_creation(connection)
                if await _queries.total(connection, include_disabled=True) >= max_destinations:
                    raise InvalidRequest(
                        f"there are {max_destinations} destinations, and no more are allowed: "
                        "delete one, or set MAX_DESTINATIONS higher"
                    )
            return await _insert(connection, new, is_default=is_default)

    async def change(self, id: UUID, edit: Edit) -> Destination:
        """Replace a destination by the result of `edit`, in one transaction.

        Raises:
            NotFound: there is no such destination.
        """
        async with self._connection() as connection:
            edited = edit(_destination(_required(await _queries.lock(connection, id=id))))
            return await _update(connection, edited)

    async def delete(self, id: UUID) -> None:
        """Delete a destination and its history.

        Raises:
            NotFound: there is no such destination.
        """
        async with self._connection() as connection:
            _required(await _queries.delete(connection, id=id))

    async def ensure_default(self, default: CreateDestination, complete: Edit) -> str:
        """Insert `default`, or replace the stored default destination by the result of `complete`.

        When an operator has created a destination of the same kind, none is inserted; the
        operator's is not changed.

        Returns:
            `created`, `changed` or `unchanged`.
        """
        async with self._connection() as connection:
            await _queries.lock_creation(connection)
            existing = [
                _destination(row) async for row in _queries.of_kind(connection, kind=default.kind)
            ]
            if not existing:
                await _insert(connection, default, is_default=True)
                return "created"
            for destination in existing:
                edited = complete(destination) if destination.is_default else destination
                if edited != destination:
                    await _update(connection, edited)
                    return "changed"
        return "unchanged"

    async def record(self, id: UUID, outcomes: Sequence[Outcome]) -> None:
        """Add outcomes to the history, and delete the oldest rows beyond `KEPT_DELIVERIES`."""
        # One outcome for each event: a statement cannot write the same row twice.
        rows = list({row.event_id: row for row in map(_without_nul, outcomes)}.values())
        document = msgspec.json.encode(rows[-KEPT_DELIVERIES:]).decode()
        async with self._connection() as connection:
            await _queries.save_deliveries(connection, id=id, deliveries=document)
            if any(outcome.status == "delivered" for outcome in outcomes):
                await _queries.touch(connection, id=id)
            await _queries.trim_history(connection, id=id, kept=KEPT_DELIVERIES)

    async def deliveries(self, id: UUID, request: ListDeliveries) -> DeliveryPage:
        """List a destination's history, with the attempt that currently fails, if any.

        Raises:
            NotFound: there is no such destination.
        """
        filters = {"id": id, "status": request.status}
        async with self._connection() as connection:
            _required(await _queries.get(connection, id=id))
            total = await _queries.total_deliveries(connection, **filters)
            rows = _queries.deliveries(
                connection, **filters, limit=request.limit, offset=request.offset
            )
            shown = [_delivered(row) async for row in rows]
            failing = await _queries.retrying(connection, id=id, durable=destination_durable(id))
        return DeliveryPage(
            deliveries=shown,
            total=total,
            limit=request.limit,
            offset=request.offset,
            retrying=Retrying(**failing) if failing else None,
        )

    async def event_deliveries(self, ids: Sequence[str]) -> EventDeliveries:
        """List the deliveries of one event, which may be recorded under any of the ids."""
        async with self._connection() as connection:
            rows = _queries.event_deliveries(
                connection, event_ids=[text_without_nul(id) for id in ids]
            )
            return EventDeliveries(deliveries=[_event_delivery(row) async for row in rows])

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            async with self._database.acquire() as connection, connection.transaction():
                yield connection
        except asyncpg.DataError as error:
            raise InvalidRequest(f"PostgreSQL cannot hold this: {error}") from error
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL cannot be used: {type(error).__name__}") from error


async def _insert(connection: Any, new: CreateDestination, *, is_default: bool) -> Destination:
    row = await _queries.insert(
        connection,
        id=uuid4(),
        url=new.url,
        kind=new.kind,
        description=new.description,
        event_types=new.event_types,
        config=_json(new.config),
        disabled=new.disabled,
        seeded=is_default,
    )
    return _destination(row)


async def _update(connection: Any, edited: Destination) -> Destination:
    row = await _queries.update(
        connection,
        id=edited.id,
        url=edited.url,
        description=edited.description,
        event_types=edited.event_types,
        config=_json(edited.given),
        disabled=edited.disabled,
    )
    return _destination(row)


def _required(row: Any) -> Any:
    if row is None:
        raise NotFound("Webhook endpoint not found")
    return row


def _destination(row: Any) -> Destination:
    fields = dict(row)
    given = msgspec.json.decode(fields["config"], type=Properties)
    fields |= {"given": given, "config": read_config(given), "is_default": fields.pop("seeded")}
    return Destination(**fields)


def _without_nul(outcome: Outcome) -> Outcome:
    # PostgreSQL's text cannot contain NUL, and an error message of PostHog may.
    return msgspec.structs.replace(
        outcome,
        event_id=text_without_nul(outcome.event_id),
        event_type=text_without_nul(outcome.event_type),
        error=text_without_nul(outcome.error),
    )


def _delivered(row: Any) -> Delivered:
    return Delivered(**{name: row[name] for name in Delivered.__struct_fields__})


def _event_delivery(row: Any) -> EventDelivery:
    names = Delivered.__struct_fields__
    return EventDelivery(
        destination_id=str(row["destination_id"]),
        description=row["description"],
        **{name: row[name] for name in names},
    )


def _json(config: Properties) -> str:
    return msgspec.json.encode(config).decode()
