"""Cards that are not there: in this process, or shown to pcscd through its vpcd driver."""
