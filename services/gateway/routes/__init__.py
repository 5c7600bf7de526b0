"""One module per resource: a route asks the bus and maps the reply, nothing else."""
