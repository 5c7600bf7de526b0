"""The sandbox's HTTP routes: PostHog's, and its own under `/_sandbox/`."""
