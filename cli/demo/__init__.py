"""`hogsend demo`: the whole loop between a stack and the sandbox, step by step."""
