"""What is worth saying: what comes again and again is said once."""

from __future__ import annotations


class News:
    """Texts that were said of one connection, or of one time without it."""

    def __init__(self, most: int) -> None:
        """Begin with none.

        Args:
            most: different texts that are said; some name another subject or port each time.
        """
        self._most = most
        self._said: set[str] = set()

    def is_new(self, text: str) -> bool:
        """Whether to say it: it was not said, and there is room for more."""
        if text in self._said or len(self._said) >= self._most:
            return False
        self._said.add(text)
        return True

    def forget(self) -> None:
        """Say everything once more."""
        self._said.clear()
