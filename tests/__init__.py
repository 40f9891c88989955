"""Every test that needs no hardware."""
