"""Backfills on the terminal."""
