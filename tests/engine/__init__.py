"""Deployments on a container engine: stand-in images, load with a ledger, the document run."""
