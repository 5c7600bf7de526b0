"""The part of JetStream's API that other people's services reach through ingest."""
