"""The activity of all services in the last hour, queried over the bus and kept in memory."""
