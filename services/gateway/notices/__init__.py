"""Notices of problems, sent to the operator's webhook (docs/operator-webhook.md)."""
