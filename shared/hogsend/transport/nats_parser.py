"""Parses the protocol of NATS, with any message subject that a server delivers.

For a server, the subject of a message ends at a space, a tab or a line feed, and may contain every
other byte. nats-py's own parser also ends it at a form feed, a vertical tab or a carriage return.
It then fails to parse the line, and reconnects. With such a message in a stream, that repeats
without end.
"""

from __future__ import annotations

import re

from nats.protocol.parser import Parser

_END = b"\r\n"
_MESSAGE = re.compile(
    rb"MSG[ \t]+([^ \t\n]+)[ \t]+(\d+)[ \t]+(?:([^ \t\n]+)[ \t]+)?(\d+)[ \t]*\r\n"
)
_MESSAGE_WITH_HEADERS = re.compile(
    rb"HMSG[ \t]+([^ \t\n]+)[ \t]+(\d+)[ \t]+(?:([^ \t\n]+)[ \t]+)?(\d+)[ \t]+(\d+)[ \t]*\r\n"
)
_H = ord("H")


class NatsParser(Parser):
    """Parses messages itself, and leaves every other line to nats-py's parser."""

    _buffer: bytearray
    _incoming: tuple[bytes, int, bytes, int, int] | None
    """An incomplete message: subject, subscription id, reply subject, and the positions where its
    headers and its body end in the buffer."""

    def reset(self) -> None:
        """Drop buffered data of an earlier connection."""
        super().reset()
        self._buffer = bytearray()
        self._incoming = None

    async def parse(self, data: bytes = b"") -> None:
        """Buffer received data, and process each complete message and line in it.

        Raises:
            nats.errors.ProtocolError: the data is not in the protocol of NATS.
        """
        self._buffer.extend(data)
        while self._buffer:
            if self._incoming is None:
                self._incoming = self._parse_message_line()
            if self._incoming is None:
                if not await self._process_line():
                    return
                continue
            subject, sid, reply, headers_end, body_end = self._incoming
            buffer = self._buffer
            if len(buffer) < body_end + len(_END):
                return
            headers = bytes(buffer[:headers_end])
            body = bytes(buffer[headers_end:body_end])
            del buffer[: body_end + len(_END)]
            self._incoming = None
            await self.nc._process_msg(sid, subject, reply, body, headers)  # noqa: SLF001

    def _parse_message_line(self) -> tuple[bytes, int, bytes, int, int] | None:
        """Parse the first line of a message; None for any other line, and for an incomplete one."""
        if self._buffer[0] == _H:
            if (match := _MESSAGE_WITH_HEADERS.match(self._buffer)) is None:
                return None
            subject, sid, reply, headers_end, body_end = match.groups()
        else:
            if (match := _MESSAGE.match(self._buffer)) is None:
                return None
            subject, sid, reply, body_end = match.groups()
            headers_end = b"0"
        del self._buffer[: match.end()]
        return subject, int(sid), reply or b"", int(headers_end), int(body_end)

    async def _process_line(self) -> bool:
        """Process any other line; returns False when the line is not complete yet."""
        end = self._buffer.find(_END) + len(_END)
        if end < len(_END):
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[:end]
        await super().parse(line)
        return True
