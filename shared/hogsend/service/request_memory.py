"""How much memory all requests in work of one process may take.

One request of 8 MB may take 290 MB decoded, and a process answers many at a time. One that would
be too much waits until those before it are answered; one that would be too much alone is refused.
Small requests, as nearly all are, never wait, and are not counted: all of them take little, and
would keep a large one waiting that needs nearly all there is.
"""

from __future__ import annotations

from hogsend.contract.errors import TooLarge
from hogsend.contract.json_memory import MAX_DECODED_BYTES, decoded_bytes
from hogsend.service.memory_budget import MemoryBudget

SMALL_BYTES = 16 * 1024
"""Length of a request up to which it is small."""


class RequestMemory:
    """Admits the requests of one process, in the order in which they come."""

    def __init__(self, max_bytes: int = MAX_DECODED_BYTES) -> None:
        """Allow so many bytes in all."""
        self._max_bytes = max_bytes
        self._budget = MemoryBudget(max_bytes)

    @property
    def held(self) -> int:
        """Bytes of the requests in work, without small ones."""
        return self._budget.held

    async def admit(self, body: bytes) -> int:
        """Wait until there is room for a request.

        Returns:
            How many bytes it was taken for, to `free` when it is answered.

        Raises:
            TooLarge: it would take more than all may.
        """
        if len(body) <= SMALL_BYTES:
            return 0
        size = decoded_bytes(body)
        if size > self._max_bytes:
            raise TooLarge(
                f"the request would take about {size >> 20} MiB of memory, more than "
                f"{self._max_bytes >> 20} MiB; ask with fewer values at a time"
            )
        await self._budget.reserve(size)
        return size

    def free(self, size: int) -> None:
        """Give back the memory of a request that is answered."""
        self._budget.release(size)
