"""The calculations of `docs/scale.md`: cores, bytes and cost of a number of events a day.

Measured constants name the command that measures them. Prices are assumptions. After a change,
`make generate` writes the page's tables again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

from services.ingest.event_table.partitions import partition_days

EVENTS_A_DAY = 1_000_000_000
PEAK = 3
"""Rate in the busiest seconds of a day, as a multiple of the mean."""
BUSY = 0.6
"""Share of its cores that a machine uses at the peak. The rest is for retries and restarts."""

CPU_US = {"gateway": 339, "NATS": 115, "ingest": 289, "PostgreSQL": 144}
"""CPU microseconds of a webhook, on a busy machine: `python -m benchmarks cost`, 2026-11-26."""
WEBHOOK_BYTES, EVENT_BYTES = 1_518, 1_809
"""A page view in WEBHOOKS and in EVENTS. All sizes are from `python -m benchmarks.footprint`."""
ROW_BYTES, INDEX_BYTES, KEY_BYTES = 1_368, 367, 109
"""A page view's row, its entries in the partition's indexes, and its key with its index entry."""
STORED_BYTES = ROW_BYTES + INDEX_BYTES + KEY_BYTES
EVENT_WAL_BYTES, CONTACT_WAL_BYTES = 2_219, 701
"""Write-ahead log of a page view's row and key, and of its contact's row."""
PERSON_BYTES = 2_364
STREAM_PUBLISHES = 7_674
"""Acknowledged publishes a second of one stream with three copies: `benchmarks syncing`."""

PEOPLE = 50_000_000
COPIES = 3
"""Replicas of each stream."""
SERVERS = 2
"""Servers of each database: a primary and a standby."""
SHARDS = 8
"""Databases that the events are distributed over."""
WEBHOOK_HOURS, EVENT_HOURS = 1, 24
"""Hours that PostgreSQL, and a subscriber, may be unavailable, at the mean rate."""
KEPT_DAYS = 30
"""`EVENT_RETENTION_DAYS`."""
WAL_DAYS = 2
"""Days of write-ahead log in the backup, for point-in-time recovery."""
SPARE = 1.25
"""Size of a disk, as a multiple of its contents."""

VCPU, GIB_OF_MEMORY, GB_OF_DISK, GB_OF_BACKUP, GB_BETWEEN_ZONES = 15.0, 2.0, 0.08, 0.02, 0.01
"""Assumed prices in US dollars a month, and for traffic in US dollars a GB."""

_SECONDS = 86_400
_TB = 1e12
_ZONES = 3


class Machines(NamedTuple):
    """Machines of one kind."""

    use: str
    number: int
    vcpu: int
    memory_gib: int
    disk_tb: float
    """Disk of each machine."""

    @property
    def price(self) -> float:
        """Dollars a month for all of these machines."""
        disk = self.disk_tb * 1000 * GB_OF_DISK
        return self.number * (self.vcpu * VCPU + self.memory_gib * GIB_OF_MEMORY + disk)


MEAN = EVENTS_A_DAY / _SECONDS
"""Events a second."""
PEAK_RATE = MEAN * PEAK


def cores() -> dict[str, float]:
    """Busy cores at the peak. Each replica of a stream is assumed to cost as much as the leader."""
    copies = {"NATS": COPIES}
    return {name: PEAK_RATE * us * copies.get(name, 1) / 1e6 for name, us in CPU_US.items()}


def held_days(kept_days: int) -> int:
    """Maximum number of days of stored events: a day's are dropped with their whole partition."""
    return kept_days + partition_days(kept_days)


def machines(kept_days: int = KEPT_DAYS) -> list[Machines]:
    """The machines to rent."""
    busy = cores()
    waiting = MEAN * 3600 * (WEBHOOK_BYTES * WEBHOOK_HOURS + EVENT_BYTES * EVENT_HOURS)
    events = EVENTS_A_DAY * held_days(kept_days) * STORED_BYTES
    contacts = PEOPLE * PERSON_BYTES
    nats = _enough(busy["NATS"], 4)
    return [
        Machines("gateway", _enough(busy["gateway"], 4), 4, 8, 0),
        Machines("ingest", _enough(busy["ingest"], 4), 4, 8, 0),
        Machines("NATS", nats, 4, 16, _tb(waiting * COPIES / nats)),
        Machines("PostgreSQL, events", SHARDS * SERVERS, 4, 32, _tb(events / SHARDS)),
        Machines("PostgreSQL, contacts", SERVERS, 8, 128, _tb(contacts)),
        Machines("the other services, balancing", 2, 4, 8, 0),
    ]


def backups_tb(kept_days: int = KEPT_DAYS) -> float:
    """Object storage for a copy of all data and the write-ahead log, in TB."""
    rows = EVENTS_A_DAY * held_days(kept_days) * STORED_BYTES + PEOPLE * PERSON_BYTES
    log = EVENTS_A_DAY * WAL_DAYS * (EVENT_WAL_BYTES + CONTACT_WAL_BYTES)
    return (rows + log) / _TB


def traffic_tb() -> float:
    """Traffic between zones in a month, with everything distributed evenly over three zones."""
    webhooks = WEBHOOK_BYTES * (COPIES + 1)
    events = EVENT_BYTES * (COPIES + 1)
    rows = ROW_BYTES + (EVENT_WAL_BYTES + CONTACT_WAL_BYTES) * (SERVERS - 1)
    return EVENTS_A_DAY * 30 * (webhooks + events + rows) * (1 - 1 / _ZONES) / _TB


def monthly(kept_days: int = KEPT_DAYS) -> float:
    """Dollars a month for everything."""
    rented = sum(machine.price for machine in machines(kept_days))
    return (
        rented
        + backups_tb(kept_days) * 1000 * GB_OF_BACKUP
        + traffic_tb() * 1000 * GB_BETWEEN_ZONES
    )


def load() -> str:
    """The load of the system, as a Markdown table."""
    logged = EVENT_WAL_BYTES + CONTACT_WAL_BYTES
    rows = [
        ("events a second", MEAN, PEAK_RATE),
        ("MB/s into WEBHOOKS", MEAN * WEBHOOK_BYTES / 1e6, PEAK_RATE * WEBHOOK_BYTES / 1e6),
        ("MB/s into EVENTS", MEAN * EVENT_BYTES / 1e6, PEAK_RATE * EVENT_BYTES / 1e6),
        ("MB/s of write-ahead log", MEAN * logged / 1e6, PEAK_RATE * logged / 1e6),
        *((f"busy cores, {name}", busy / PEAK, busy) for name, busy in cores().items()),
    ]
    return _table(
        ("", "mean", "peak"), ((name, _number(mean), _number(peak)) for name, mean, peak in rows)
    )


def bill() -> str:
    """Machines and their prices, as a Markdown table."""
    rows = [
        (
            machine.use,
            str(machine.number),
            str(machine.vcpu),
            f"{machine.memory_gib} GiB",
            f"{machine.disk_tb:g} TB" if machine.disk_tb else "",
            f"{machine.price:,.0f}",
        )
        for machine in machines()
    ]
    backups, traffic = backups_tb(), traffic_tb()
    rows += [
        ("backups", "", "", "", f"{backups:.0f} TB", f"{backups * 1000 * GB_OF_BACKUP:,.0f}"),
        (
            "between zones",
            "",
            "",
            "",
            f"{traffic:.0f} TB",
            f"{traffic * 1000 * GB_BETWEEN_ZONES:,.0f}",
        ),
        ("**together**", "", "", "", "", f"**{monthly():,.0f}**"),
    ]
    return _table(("", "machines", "vCPU", "memory", "disk", "USD a month"), rows)


def retention() -> str:
    """The cost by number of days that events are kept, as a Markdown table."""
    return _table(
        ("days kept", "disk of each of the event databases", "USD a month"),
        (
            (str(days), f"{machines(days)[3].disk_tb:g} TB", f"{monthly(days):,.0f}")
            for days in (1, 7, KEPT_DAYS, 90)
        ),
    )


def streams() -> int:
    """Number of streams into which each of WEBHOOKS and EVENTS has to be divided."""
    return ceil(PEAK_RATE / STREAM_PUBLISHES)


TABLES = {"load": load, "bill": bill, "retention": retention}


def _enough(busy: float, vcpu: int) -> int:
    """Number of machines for `busy` cores, while one of them is unavailable."""
    return ceil(busy / BUSY / vcpu) + 1


def _tb(size: float) -> float:
    """Disk for `size` bytes with spare space, rounded up to a tenth of a TB."""
    return ceil(size * SPARE / _TB * 10) / 10


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004 - two digits


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)
