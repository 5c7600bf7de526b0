"""Contacts: who an event belongs to, and what is known about them."""
