"""Journal, outbox, gateway and clearing, with records that are signed here and need no card."""
