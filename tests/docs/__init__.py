"""What the pages say, held against the program."""
