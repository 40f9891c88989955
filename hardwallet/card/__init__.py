"""The reference card: rules, limits, journal, and a memory that commits atomically."""
