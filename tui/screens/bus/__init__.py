"""The validator's screen, one file a region. `driving.py` knows no Textual."""
