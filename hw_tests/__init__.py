"""The card contract: cases that any card must pass, on real readers and cards."""
