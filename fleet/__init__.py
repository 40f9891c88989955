"""Many terminals and cards at once, with no screen: headless and seeded."""
