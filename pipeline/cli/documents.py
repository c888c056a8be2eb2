"""`bank openapi` and `bank asyncapi`: print what the services say of themselves."""

import click

from pipeline.cli.roles import become


@click.command()
@click.argument("service", type=click.Choice(["accounts", "balances"]), default="accounts")
def openapi(service: str) -> None:
    """Print the OpenAPI document of a service: accounts, or balances.

    No server is needed. A running service has the same at /openapi.json.

    \b
    Examples:
      bank openapi             the service of commands
      bank openapi balances    the service of reads
    """
    become("api.describe", "openapi", service)


@click.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of the stream of events and the feed.

    No server is needed. The running balance service has the same at /asyncapi.json.

    \b
    Examples:
      bank asyncapi                          for generators and clients
      BANK_APPLICATION=bank bank asyncapi    of an application by its name
    """
    become("api.describe", "asyncapi", "balances")
