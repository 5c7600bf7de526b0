"""What all services did in the last hour, asked over the bus and kept in memory."""
