"""Injects faults under load, and checks with a ledger that nothing was lost: `make chaos`."""
