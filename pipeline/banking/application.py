"""The bank as an application on the engine."""

from typing import Final

from pipeline.application import Application
from pipeline.banking.balance import BALANCE
from pipeline.banking.money import turnover
from pipeline.banking.statement import STATEMENT

BANK: Final = Application("bank", projections=[BALANCE, STATEMENT], turnover=turnover)
"""It names no aggregate: the account stands in a room above, `api/accounts/`. Its upcasters are
entry points, as those of packages that extend the bank."""
