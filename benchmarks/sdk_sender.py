"""Captures events with the package `posthog`: `python -m benchmarks.sdk_sender`.

The arguments are host, key, number of events and number of people. It prints `ready` and waits for
a line before it sends, so that its start is not measured.
"""

from __future__ import annotations

import sys

from posthog import Posthog


def main() -> None:
    """Capture the events, flush, and wait until stdin is closed."""
    host, key, events, people = sys.argv[1:]
    client = Posthog(key, host=host, gzip=True, max_queue_size=int(events) + 1)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(events)):
        client.capture(
            "feature.used",
            distinct_id=f"u_{number % int(people)}",
            properties={"plan": "pro", "number": number, "path": "/app/settings"},
        )
    client.flush()
    print("sent", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
