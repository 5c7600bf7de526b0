"""Connects PostHog from the console, in a browser (docs/adr/0026-connect-in-browser.md)."""
