"""Consent that was asked for in a browser of the console (docs/adr/0026-connect-in-browser.md)."""
