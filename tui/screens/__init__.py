"""The till's and the bus's screens. Textual is imported here and nowhere else."""

import os

# Before Textual reads it: a result waits half as long for its frame.
os.environ.setdefault("TEXTUAL_FPS", "120")
