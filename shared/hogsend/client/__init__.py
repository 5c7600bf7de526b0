"""What other people's services call: persons, flags, engagement, events, local times."""
