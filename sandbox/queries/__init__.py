"""HogQL over the captured events, as far as it is understood here."""
