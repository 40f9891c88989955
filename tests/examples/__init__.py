"""The examples, run as a user types them, and what docs/integrating.md says."""
