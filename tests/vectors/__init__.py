"""Test vectors of docs/protocol.md, one file a subject, and the script that makes them."""
