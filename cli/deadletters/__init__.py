"""`hogsend dlq`: output of dead letters."""
