"""Decompresses lz-string's base64 form, which older posthog-js sends (`compression=lz64`).

LZW over UTF-16 code units, with codes as wide as the dictionary is large, least significant bit
first. The dictionary starts with three codes: a new 8-bit unit, a new 16-bit one, the end.
"""

from __future__ import annotations

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
BITS_OF_A_CHARACTER = 6

UNIT_8, UNIT_16, END = 0, 1, 2


class LzError(ValueError):
    """The text was not made by lz-string."""


class TooLong(ValueError):
    """The text would be longer than the limit."""


class _Bits:
    """The bits of a text, six of each character, the most significant first."""

    def __init__(self, text: str) -> None:
        try:
            self._values = [ALPHABET.index(character) for character in text]
        except ValueError:
            raise LzError("a character is none of base64's") from None
        self._position = 0

    def take(self, count: int) -> int:
        """Take a number of `count` bits, whose least significant one comes first."""
        found = 0
        for power in range(count):
            index, offset = divmod(self._position, BITS_OF_A_CHARACTER)
            if index >= len(self._values):
                raise LzError("the text ends early")
            found |= (self._values[index] >> (BITS_OF_A_CHARACTER - 1 - offset) & 1) << power
            self._position += 1
        return found


class _Codes:
    """The codes of a text, and what each stands for."""

    def __init__(self, bits: _Bits) -> None:
        self._bits = bits
        self._known: dict[int, list[int]] = {}
        self._size = END + 1
        self._width = 2
        self._left = 1
        """How many more codes fit into the width."""

    def next(self) -> list[int] | int | None:
        """Give what the next code stands for, a code that comes to mean something, or the end."""
        code = self._bits.take(self._width)
        if code == END:
            return None
        if code not in (UNIT_8, UNIT_16):
            return self._known.get(code, code)
        found = [self._bits.take(8 if code == UNIT_8 else 16)]
        self.add(found)
        return found

    def add(self, entry: list[int]) -> int:
        """Let the next code stand for `entry`, and give it."""
        code = self._size
        self._known[code] = entry
        self._size += 1
        self._left -= 1
        if self._left == 0:
            self._left = 1 << self._width
            self._width += 1
        return code


def decompress(text: str, limit: int) -> str:
    """Decompress what `LZString.compressToBase64` gave.

    Args:
        text: that.
        limit: most UTF-16 code units of the answer.

    Raises:
        LzError: it is something else.
        TooLong: there is more.
    """
    codes = _Codes(_Bits(text))
    units: list[int] = []
    previous: list[int] = []
    while (found := codes.next()) is not None:
        if isinstance(found, int):
            if not previous or found != codes.add([*previous, previous[0]]):
                raise LzError("a code means nothing yet")
            entry = [*previous, previous[0]]
        else:
            entry = found
            if previous:
                codes.add([*previous, entry[0]])
        units += entry
        previous = entry
        if len(units) > limit:
            raise TooLong
    try:
        return b"".join(one.to_bytes(2, "little") for one in units).decode("utf-16-le")
    except UnicodeDecodeError:
        raise LzError("half a character is left") from None
