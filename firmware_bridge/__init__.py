"""Bytes reach a card: APDUs, readers, links, virtual cards, traces. Knows nothing about wallets or money."""
