"""Faults under load, and a ledger that says whether anything was lost: `make chaos`."""
