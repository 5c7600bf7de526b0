"""The part of JetStream's API that other people's services may use, through ingest."""
