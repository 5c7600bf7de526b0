"""Decompresses the base64 form of lz-string, which older posthog-js sends (`compression=lz64`).

lz-string is LZW over UTF-16 code units. The width of a code grows with the dictionary, and its
least significant bit comes first. The dictionary starts with three codes: a new 8-bit unit, a new
16-bit unit, and the end.
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
        """Read a number of `count` bits, the least significant bit first."""
        number = 0
        for power in range(count):
            index, offset = divmod(self._position, BITS_OF_A_CHARACTER)
            if index >= len(self._values):
                raise LzError("the text ends early")
            number |= (self._values[index] >> (BITS_OF_A_CHARACTER - 1 - offset) & 1) << power
            self._position += 1
        return number


class _Codes:
    """The codes of a text, and the dictionary of their entries."""

    def __init__(self, bits: _Bits) -> None:
        self._bits = bits
        self._entries: dict[int, list[int]] = {}
        self._size = END + 1
        self._width = 2
        self._remaining = 1
        """Number of codes that can be added before the width grows."""

    def next(self) -> list[int] | int | None:
        """Read a code. Return its entry, the code if it has none yet, or None at the end."""
        code = self._bits.take(self._width)
        if code == END:
            return None
        if code not in (UNIT_8, UNIT_16):
            return self._entries.get(code, code)
        unit = [self._bits.take(8 if code == UNIT_8 else 16)]
        self.add(unit)
        return unit

    def add(self, entry: list[int]) -> int:
        """Add an entry to the dictionary, and return its code."""
        code = self._size
        self._entries[code] = entry
        self._size += 1
        self._remaining -= 1
        if self._remaining == 0:
            self._remaining = 1 << self._width
            self._width += 1
        return code


def decompress(text: str, limit: int) -> str:
    """Decompress the output of `LZString.compressToBase64`.

    Args:
        text: the compressed text.
        limit: maximum number of UTF-16 code units of the result.

    Raises:
        LzError: the text was not made by lz-string.
        TooLong: the result exceeds the limit.
    """
    codes = _Codes(_Bits(text))
    units: list[int] = []
    previous: list[int] = []
    while (read := codes.next()) is not None:
        if isinstance(read, int):
            # LZW may use a code in the step that defines it: the previous entry and its first unit.
            if not previous or read != codes.add([*previous, previous[0]]):
                raise LzError("a code means nothing yet")
            entry = [*previous, previous[0]]
        else:
            entry = read
            if previous:
                codes.add([*previous, entry[0]])
        units += entry
        previous = entry
        if len(units) > limit:
            raise TooLong
    try:
        return b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le")
    except UnicodeDecodeError:
        raise LzError("half a character is left") from None
