"""The till and the bus line by line, for screen readers, logs and pipes: no Textual, no cursor, no colour."""
