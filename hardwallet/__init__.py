"""A card speaks wallet: suites, certificates, messages, records, the session, the reference card."""
