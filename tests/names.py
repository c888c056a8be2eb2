"""The bank's names at the servers, as tests ask the servers for them."""

from pipeline.model.names import BANK

STREAM = BANK.log
TOKEN_SUBJECT = BANK.token_subject
SUBJECT = BANK.partitions_subject
INDEX = BANK.checkpoints
ALIAS = BANK.checkpoints_alias
CHANGELOG = BANK.changelog("activity")
subject = BANK.subject
