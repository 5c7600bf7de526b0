"""Contacts: finds the person an event belongs to, and stores what is known about each person."""
