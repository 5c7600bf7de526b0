"""Limits the memory that the decoded requests of one process use together.

A request of 8 MB may use 350 MB when it is decoded, and a process handles many at the same time. A
request that exceeds the remaining budget waits until earlier ones are answered. A request that
exceeds the whole budget is refused. Small requests, which nearly all are, never wait and are not
counted: together they use little, and counting them would delay a large request that needs nearly
the whole budget.
"""

from __future__ import annotations

from hogsend.contract.errors import TooLarge
from hogsend.contract.json_memory import MAX_DECODED_BYTES, decoded_bytes
from hogsend.service.memory_budget import MemoryBudget

SMALL_BYTES = 16 * 1024
"""A request up to this length is small."""


class RequestMemory:
    """Admits the requests of one process in the order in which they arrive."""

    def __init__(self, max_bytes: int = MAX_DECODED_BYTES) -> None:
        """Allow `max_bytes` for all decoded requests together."""
        self._max_bytes = max_bytes
        self._budget = MemoryBudget(max_bytes)

    @property
    def reserved_bytes(self) -> int:
        """Estimated memory of the requests in progress, without small ones."""
        return self._budget.reserved_bytes

    async def admit(self, body: bytes) -> int:
        """Wait until there is memory for a request.

        Returns:
            The bytes that were reserved; pass them to `release` when the request is answered.

        Raises:
            TooLarge: the request alone would exceed the budget.
        """
        if len(body) <= SMALL_BYTES:
            return 0
        size = decoded_bytes(body)
        if size > self._max_bytes:
            raise TooLarge(
                f"the request would take about {size >> 20} MiB of memory, more than "
                f"{self._max_bytes >> 20} MiB; send fewer values at a time"
            )
        await self._budget.reserve(size)
        return size

    def release(self, size: int) -> None:
        """Release the memory of a request that was answered."""
        self._budget.release(size)
