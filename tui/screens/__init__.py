"""The till's and the bus's screens. Textual is imported here and nowhere else."""
