"""Turns exceptions into messages for people: what went wrong and what to do, no traceback."""

from nats.errors import Error as NatsError

from pipeline.cli.failures import CommandFailed, Failure
from pipeline.embedded.process_group import ProcessesFailed
from pipeline.embedded.servers import EmbeddedError
from pipeline.eventstore import StoreUnavailable
from pipeline.messaging import JetStreamError, ServerTooOld
from pipeline.search import ProjectionUnavailable
from pipeline.support.access import SERVERS
from pipeline.support.addresses import CannotListen
from pipeline.support.auth_errors import refusal
from pipeline.support.settings import PREFIX, SettingsError, load


def first(error: BaseException) -> BaseException:
    """The first error of a task group, or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def explain(error: Exception) -> Failure:
    """The message and exit code for an exception."""
    cause = first(error)
    failure = _of(cause)
    for note in getattr(cause, "__notes__", []):
        failure.message += f"\n{note}"
    return failure


def _of(cause: BaseException) -> Failure:
    if isinstance(cause, CommandFailed | ProcessesFailed):
        return Failure(str(cause), cause.exit_code)
    if why := refusal(cause):
        return Failure(why, 1)
    match cause:
        case SettingsError() | EmbeddedError() | ServerTooOld() | CannotListen():
            return Failure(str(cause), 1)
        case StoreUnavailable():
            return Failure(f"MongoDB does not answer: {cause}\n{load().advice('mongodb')}", 1)
        case ProjectionUnavailable():
            return Failure(
                f"Elasticsearch does not answer: {cause}\n{load().advice('elasticsearch')}", 1
            )
        case NatsError() | JetStreamError():
            why = str(cause) or "no answer in time"
            return Failure(f"NATS does not answer: {why}\n{load().advice('nats')}", 1)
        case ConnectionError():
            return Failure(f"no connection: {cause}\n{load().advice(*SERVERS)}", 1)
        case OSError():
            return Failure(str(cause), 1)
    return Failure(
        f"{type(cause).__name__}: {cause}\n"
        f"This should not happen. {PREFIX}LOG_LEVEL=DEBUG shows where it did.",
        1,
    )
