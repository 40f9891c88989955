"""Tests of the pos_terminal package."""
