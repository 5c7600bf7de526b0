"""Events that one durable gets again."""
