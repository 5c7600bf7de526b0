"""Sends events with PostHog's own package, as `python -m benchmarks.sdk_sender`.

Given a host, a key and how many events and people, it prints `ready` and waits for a line
before it sends, so that starting up is not measured.
"""

from __future__ import annotations

import sys

from posthog import Posthog


def main() -> None:
    """Capture, flush, and stay until stdin closes."""
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
