"""Keeps repeated texts out of a log: each text is logged once, and only so many different ones."""

from __future__ import annotations


class LogOnce:
    """Remembers which texts were logged, until it is reset."""

    def __init__(self, max_texts: int) -> None:
        """Start with no text logged.

        Args:
            max_texts: how many different texts are logged before the next reset. Some errors name
                another subject or port each time, so that their number has no limit of its own.
        """
        self._max_texts = max_texts
        self._logged: set[str] = set()

    def is_new(self, text: str) -> bool:
        """Return whether to log `text`: it was not logged yet, and the limit is not reached.

        A text for which this returns True counts as logged.
        """
        if text in self._logged or len(self._logged) >= self._max_texts:
            return False
        self._logged.add(text)
        return True

    def reset(self) -> None:
        """Forget what was logged, so that each text is logged once more."""
        self._logged.clear()
