"""The validator's screen, one file a region. `layout.py`, `big.py` and `driving.py` know no Textual."""
