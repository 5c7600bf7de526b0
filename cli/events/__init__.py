"""`hogsend events`: the output of events, following and replaying them."""
