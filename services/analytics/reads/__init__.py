"""What is known about a person: properties, time zone, conditions, flags."""
