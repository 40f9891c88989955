"""The sale survives, travels and is settled: journal, outbox, gateway, clearing."""
