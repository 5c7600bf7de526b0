"""The spool: a queue of webhooks on disk, used while JetStream does not accept them."""
