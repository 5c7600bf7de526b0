"""The local stack: real servers from wheels, our services, and what keeps them running."""
