"""The output of `hogsend backfill`."""
