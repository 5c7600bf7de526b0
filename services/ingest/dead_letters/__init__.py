"""Dead letters: publishes, lists, replays and purges them."""
