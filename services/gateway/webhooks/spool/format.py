"""The format of a spool file: a header, then records that can each be verified alone.

All numbers are little-endian:

    header   "HOGSPOOL", version, `synced`, checksum of `synced`
    record   mark, state, content length, checksum of the content,
             checksum of the mark, the length and the content's checksum
    content  `length` bytes, followed by the next record

Invariant: damage is always detected, and costs only the webhooks whose bytes it changed.
Why: a checksum covers every byte, and each record is found by its mark.
Without it: a damaged file would lose webhooks without a log line, or the undamaged ones with them.

Invariant: unreadable bytes before `synced` are damage; unreadable bytes after it are not.
Why: `synced` is the size up to which the file was synced before a webhook in it was answered 200.
Without it: a write that a crash interrupted, and that was never answered, would count as damage.

Invariant: a webhook's body never verifies as a record.
Why: all checksums start from the salt, a random number in the file's name, which no client knows.
Without it: a client could post a body that contains records. Once damage hides the record around
the body, they would be published without any check.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

_MAGIC, _VERSION = b"HOGSPOOL", 1
_HEADER = struct.Struct("<8sIQI")
_MARK = b"\xabHS\x01"
_RECORD = struct.Struct("<4sIIII")
_STATE = struct.Struct("<I")
_PENDING = 0

HEADER_SIZE, RECORD_SIZE = _HEADER.size, _RECORD.size
"""Bytes before the first record, and bytes before a record's content."""
STATE_OFFSET = 4
"""Offset of the state in a record."""


@dataclass(frozen=True)
class Record:
    """A record whose checksums match: one webhook."""

    offset: int
    content: bytes
    pending: bool
    """Whether the file has no mark that the webhook was published."""

    @property
    def size(self) -> int:
        """Bytes that the record occupies in the file."""
        return RECORD_SIZE + len(self.content)


@dataclass(frozen=True)
class Damage:
    """Bytes in which no record verifies."""

    offset: int
    content: bytes
    unfinished: bool
    """Whether they are after `synced`: a write that a crash interrupted, which was not answered."""


class RecordHeader(NamedTuple):
    """The part of a record before its content, without the mark."""

    state: int
    length: int
    checksum: int
    """Checksum of the content."""
    own_checksum: int
    """Checksum of the mark, the length and the content's checksum."""

    def record(self, offset: int, content: bytes, salt: int) -> Record | None:
        """Return the record, or None if `content` does not match the checksum."""
        if len(content) < self.length or crc32(content, salt) != self.checksum:
            return None
        return Record(offset, content, self.state != _published_state(self.own_checksum))


def record_size(content: bytes) -> int:
    """Return how many bytes an encoded webhook occupies in a file."""
    return RECORD_SIZE + len(content)


def synced_bytes(data: bytes, salt: int) -> int | None:
    """Read `synced` from a file's header. Return None if the header is damaged."""
    if len(data) < HEADER_SIZE:
        return None
    *_, synced, _ = _HEADER.unpack_from(data)
    return synced if data.startswith(file_header(synced, salt)) else None


def contents_of(data: bytes, salt: int, offset: int = HEADER_SIZE) -> Iterator[Record | Damage]:
    """Yield the records of a file from `offset` on, and the damage between them."""
    synced = synced_bytes(data, salt)
    damaged_from: int | None = None
    while offset < len(data):
        record = _record_at(data, offset, salt)
        if record is None:
            damaged_from = offset if damaged_from is None else damaged_from
            next_mark = data.find(_MARK, offset + 1)
            offset = next_mark if next_mark >= 0 else len(data)
            continue
        if damaged_from is not None:
            yield Damage(damaged_from, data[damaged_from:offset], unfinished=False)
            damaged_from = None
        yield record
        offset += record.size
    if damaged_from is not None:
        unfinished = synced is not None and damaged_from >= synced
        yield Damage(damaged_from, data[damaged_from:], unfinished=unfinished)


def record_header(data: bytes, offset: int, salt: int) -> RecordHeader | None:
    """Read the header of the record at `offset`. Return None if no record starts there."""
    if len(data) - offset < RECORD_SIZE:
        return None
    mark, *fields = _RECORD.unpack_from(data, offset)
    header = RecordHeader(*fields)
    if mark != _MARK or header.own_checksum != _checksum(header.length, header.checksum, salt):
        return None
    return header


def file_header(synced: int, salt: int) -> bytes:
    """Encode the header of a file that is synced up to `synced`."""
    return _HEADER.pack(_MAGIC, _VERSION, synced, crc32(struct.pack("<Q", synced), salt))


def pending_record(content: bytes, salt: int) -> bytes:
    """Encode a record of a webhook that is not published yet."""
    checksum = crc32(content, salt)
    own_checksum = _checksum(len(content), checksum, salt)
    return _RECORD.pack(_MARK, _PENDING, len(content), checksum, own_checksum) + content


def published_state(record: bytes) -> bytes | None:
    """Encode the state that marks `record` as published. Return None if `record` is too short."""
    if len(record) < RECORD_SIZE:
        return None
    return _STATE.pack(_published_state(_RECORD.unpack_from(record)[-1]))


def _record_at(data: bytes, offset: int, salt: int) -> Record | None:
    header = record_header(data, offset, salt)
    if header is None:
        return None
    start = offset + RECORD_SIZE
    return header.record(offset, data[start : start + header.length], salt)


def _checksum(length: int, checksum: int, salt: int) -> int:
    return crc32(struct.pack("<4sII", _MARK, length, checksum), salt)


def _published_state(own_checksum: int) -> int:
    # Invariant: no single damaged byte turns this state into 0, the state of a pending webhook.
    # Why: none of its four bytes is 0, so all four would have to change.
    # Without it: one flipped byte would have a published webhook published again.
    return own_checksum | 0x01010101
