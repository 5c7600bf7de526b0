"""A file of the spool, byte by byte: webhooks, each of which can be checked by itself.

Damage anywhere costs the webhooks that it touches and is noticed: every byte that was written is
covered by a checksum. The format, all numbers little-endian:

    header   "HOGSPOOL", version, synced bytes, checksum of the latter
    record   mark, state, length, checksum of the content, checksum of mark, length and content's
    content  of `length` bytes, and the next record

`synced` is how far the file was on disk when the last webhook in it was answered: what cannot be
read before that is damage, what cannot be read behind it is a write that a crash interrupted. All
checksums begin from a random number in the file's name. So no content can imitate a record, and
records can be found even where the file's first bytes are damaged.
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
_WAITING = 0

HEADER_SIZE, RECORD_SIZE = _HEADER.size, _RECORD.size
"""Bytes before the first record, and before a record's content."""
STATE_OFFSET = 4
"""Where in a record its state is."""


@dataclass(frozen=True)
class Record:
    """A webhook in a file; it is whole."""

    offset: int
    content: bytes
    waits: bool
    """Whether it has not been published yet, as far as the file knows."""

    @property
    def size(self) -> int:
        """Bytes it takes in the file."""
        return RECORD_SIZE + len(self.content)


@dataclass(frozen=True)
class Damage:
    """Bytes that are no whole record."""

    offset: int
    content: bytes
    unfinished: bool
    """Whether they are what a crash left of a write that was never answered."""


class RecordHeader(NamedTuple):
    """What is before a record's content."""

    state: int
    length: int
    checksum: int
    """Of the content."""
    own_checksum: int

    def record(self, offset: int, content: bytes, salt: int) -> Record | None:
        """Give the record with its content; None if that is not what was written."""
        if len(content) < self.length or crc32(content, salt) != self.checksum:
            return None
        return Record(offset, content, self.state != _published_state(self.own_checksum))


def record_size(content: bytes) -> int:
    """Bytes that a webhook takes in a file."""
    return RECORD_SIZE + len(content)


def synced_bytes(data: bytes, salt: int) -> int | None:
    """Give how far a file was on disk when its last webhook was answered; None for a bad header."""
    if len(data) < HEADER_SIZE:
        return None
    magic, version, synced, _ = _HEADER.unpack_from(data)
    sound = (magic, version) == (_MAGIC, _VERSION) and data.startswith(file_header(synced, salt))
    return synced if sound else None


def contents_of(data: bytes, salt: int, offset: int = HEADER_SIZE) -> Iterator[Record | Damage]:
    """Give what a file holds from a place on: whole webhooks, and what lies between them."""
    synced = synced_bytes(data, salt)
    lost: int | None = None
    while offset < len(data):
        record = _whole_record(data, offset, salt)
        if record is None:
            lost = offset if lost is None else lost
            found = data.find(_MARK, offset + 1)
            offset = found if found >= 0 else len(data)
            continue
        if lost is not None:
            yield Damage(lost, data[lost:offset], unfinished=False)
            lost = None
        yield record
        offset += record.size
    if lost is not None:
        yield Damage(lost, data[lost:], unfinished=synced is not None and lost >= synced)


def record_header(data: bytes, offset: int, salt: int) -> RecordHeader | None:
    """Read what is before a record's content; None where no record begins."""
    if len(data) - offset < RECORD_SIZE:
        return None
    mark, *fields = _RECORD.unpack_from(data, offset)
    header = RecordHeader(*fields)
    if mark != _MARK or header.own_checksum != _checksum(header.length, header.checksum, salt):
        return None
    return header


def file_header(synced: int, salt: int) -> bytes:
    """Write the first bytes of a file that is on disk up to `synced`."""
    return _HEADER.pack(_MAGIC, _VERSION, synced, crc32(struct.pack("<Q", synced), salt))


def waiting_record(content: bytes, salt: int) -> bytes:
    """Write a webhook that waits."""
    checksum = crc32(content, salt)
    own_checksum = _checksum(len(content), checksum, salt)
    return _RECORD.pack(_MARK, _WAITING, len(content), checksum, own_checksum) + content


def published(record: bytes) -> bytes | None:
    """Write the state of a record that is published; None for bytes too few to be one."""
    if len(record) < RECORD_SIZE:
        return None
    return _STATE.pack(_published_state(_RECORD.unpack_from(record)[-1]))


def _whole_record(data: bytes, offset: int, salt: int) -> Record | None:
    header = record_header(data, offset, salt)
    if header is None:
        return None
    start = offset + RECORD_SIZE
    return header.record(offset, data[start : start + header.length], salt)


def _checksum(length: int, checksum: int, salt: int) -> int:
    return crc32(struct.pack("<4sII", _MARK, length, checksum), salt)


def _published_state(own_checksum: int) -> int:
    # None of its bytes is 0, so that no single damaged byte makes it of a webhook that waits.
    return own_checksum | 0x01010101
