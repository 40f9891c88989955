"""Tests of firmware_bridge: bytes reach a card."""
