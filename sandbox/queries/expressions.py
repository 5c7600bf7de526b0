"""Expressions of a query, as functions that compute a value from a row."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeAlias

import msgspec

from sandbox.ingestion.events import CapturedEvent
from sandbox.ingestion.people import Person


class HogQLError(Exception):
    """The query cannot be parsed or run. The message states where."""


class Row(NamedTuple):
    """An event and its person."""

    event: CapturedEvent
    person: Person | None


Expression: TypeAlias = Callable[[Row], Any]

NO_ROW = Row(CapturedEvent(uuid="", event="", distinct_id="", properties={}, timestamp=""), None)
"""For expressions that depend on no row."""

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COLUMNS: dict[str, Expression] = {
    "uuid": lambda row: row.event.uuid,
    "event": lambda row: row.event.event,
    "distinct_id": lambda row: row.event.distinct_id,
    "timestamp": lambda row: datetime.fromisoformat(row.event.timestamp),
    "properties": lambda row: msgspec.json.encode(row.event.properties).decode(),
    "person.properties": lambda row: msgspec.json.encode(
        row.person.properties if row.person else {}
    ).decode(),
}
_PROPERTY = "properties."


def constant(value: Any) -> Expression:
    """An expression that is `value` for every row."""
    return lambda _row: value


def field(name: str) -> Expression:
    """A column of `events`, or a property of the event.

    Raises:
        HogQLError: there is no such column.
    """
    if name in _COLUMNS:
        return _COLUMNS[name]
    if name.startswith(_PROPERTY):
        return partial(_property, name.removeprefix(_PROPERTY))
    return unresolved(name)


def unresolved(text: str) -> NoReturn:
    """Refuse a name or token that is no expression.

    Raises:
        HogQLError: always.
    """
    raise HogQLError(f"Unable to resolve field: {text}")


def any_of(conditions: Sequence[Expression]) -> Expression:
    """Whether one of the conditions holds."""
    if len(conditions) == 1:
        return conditions[0]
    return lambda row: any(condition(row) for condition in conditions)


def all_of(conditions: Sequence[Expression]) -> Expression:
    """Whether all conditions hold."""
    if len(conditions) == 1:
        return conditions[0]
    return lambda row: all(condition(row) for condition in conditions)


def coalesce(values: Sequence[Expression]) -> Expression:
    """The first value that is not NULL; NULL if all are."""
    return lambda row: next(
        (result for value in values if (result := value(row)) is not None), None
    )


def to_string(argument: Expression) -> Expression:
    """The text of a value."""
    return lambda row: _text(output(argument(row)))


def to_date_time(argument: Expression, *, depends_on_row: bool) -> Expression:
    """The moment that a text names.

    Raises:
        HogQLError: the argument is a constant that names no moment.
    """
    if depends_on_row:
        return lambda row: _moment(argument(row))
    # A constant is parsed once, not for every row.
    try:
        moment = _moment(argument(NO_ROW))
    except ValueError as error:
        raise HogQLError(f"Cannot parse datetime: {error}") from None
    return constant(moment)


def output(value: Any) -> Any:
    """A value as the response contains it: a moment as text, others unchanged."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _text(value: Any) -> str | None:
    """The text of a value in ClickHouse's format; NULL stays NULL."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _property(name: str, row: Row) -> Any:
    """A property of the event, always as text, like PostHog's properties without a defined type."""
    return _text(row.event.properties.get(name))


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
