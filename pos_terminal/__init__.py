"""A tap becomes a sale: the tap, sale states, limits, receipts, the terminal's keys."""
