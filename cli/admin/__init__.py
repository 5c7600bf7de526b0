"""The admin routes of a Hogsend server, ours or upstream's (contract 0.1 and 1)."""
