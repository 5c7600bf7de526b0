"""Hogsend's services: one package each, nothing shared but the bus."""
