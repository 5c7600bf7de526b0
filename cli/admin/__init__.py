"""The admin routes of a Hogsend server, this project's or upstream's (contract 0.1 and 1)."""
