"""The operator's webhook: problems are told, not only shown (docs/operator-webhook.md)."""
