"""Documentation; `generate` makes what can be made from the code."""
