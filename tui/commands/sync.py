"""`hardwallet sync`: sends what waits, or writes it to a file."""

import typer


def register(app: typer.Typer) -> None:
    """Adds this command to the program."""
