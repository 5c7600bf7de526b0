"""Contacts on the terminal."""
