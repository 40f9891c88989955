"""A person sees and steers it: the command line, and later the screens."""
