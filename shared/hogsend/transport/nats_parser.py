"""Reads what NATS sends: messages with any subject that a server carries.

A server checks little of the subject of a message. It ends at a space, a tab or a line
feed, and may hold every other byte. nats-py's own parser also ends it at a form feed, a vertical
tab or a carriage return, finds no message in the line then, and connects again. Where a stream has
such a message, that repeats without end.
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
    """nats-py's parser for everything but messages."""

    _unread: bytearray
    _begun: tuple[bytes, int, bytes, int, int] | None
    """Subject, subscription, reply, ends of headers and body: of a message still arriving."""

    def reset(self) -> None:
        """Forget what was read of a connection that is no more."""
        super().reset()
        self._unread = bytearray()
        self._begun = None

    async def parse(self, data: bytes = b"") -> None:
        """Read what has arrived, and hand over what is complete.

        Raises:
            nats.errors.ProtocolError: it is not NATS' protocol.
        """
        self._unread.extend(data)
        while self._unread:
            if self._begun is None:
                self._begun = self._message()
            if self._begun is None:
                if not await self._line():
                    return
                continue
            subject, sid, reply, headers_end, body_end = self._begun
            unread = self._unread
            if len(unread) < body_end + len(_END):
                return
            headers = bytes(unread[:headers_end])
            body = bytes(unread[headers_end:body_end])
            del unread[: body_end + len(_END)]
            self._begun = None
            await self.nc._process_msg(sid, subject, reply, body, headers)  # noqa: SLF001

    def _message(self) -> tuple[bytes, int, bytes, int, int] | None:
        """Read the line that a message begins with; None for another, or a part of one."""
        if self._unread[0] == _H:
            if (found := _MESSAGE_WITH_HEADERS.match(self._unread)) is None:
                return None
            subject, sid, reply, headers_end, body_end = found.groups()
        else:
            if (found := _MESSAGE.match(self._unread)) is None:
                return None
            subject, sid, reply, body_end = found.groups()
            headers_end = b"0"
        del self._unread[: found.end()]
        return subject, int(sid), reply or b"", int(headers_end), int(body_end)

    async def _line(self) -> bool:
        """Read any other line; False when it has not arrived as a whole."""
        end = self._unread.find(_END) + len(_END)
        if end < len(_END):
            return False
        line = bytes(self._unread[:end])
        del self._unread[:end]
        await super().parse(line)
        return True
