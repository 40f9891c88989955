"""`hardwallet clearing`: the operator's side."""

import typer

app = typer.Typer(help="The operator's side: take uploads over HTTP, report balances, import files.")
