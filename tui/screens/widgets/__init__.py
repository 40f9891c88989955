"""What the screens of till and bus have in common: bars, dialogs, and the place that holds a result."""
