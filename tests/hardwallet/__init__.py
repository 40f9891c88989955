"""Tests of the hardwallet package."""
