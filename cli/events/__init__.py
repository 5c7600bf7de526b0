"""`hogsend events`: output of events, and where they are followed."""
