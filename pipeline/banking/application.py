"""The bank as an application on the engine."""

from typing import Final

from pipeline.application import Application
from pipeline.banking.account import ACCOUNT, REVERSAL, TRANSFER
from pipeline.banking.balance import BALANCE
from pipeline.banking.expiry import EXPIRY
from pipeline.banking.money import turnover
from pipeline.banking.statement import STATEMENT

BANK: Final = Application(
    "bank",
    aggregates=[ACCOUNT],
    joints=[TRANSFER, REVERSAL],
    projections=[BALANCE, STATEMENT],
    turnover=turnover,
    processes=[EXPIRY],
)
