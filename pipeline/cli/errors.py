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
from pipeline.support.server_answers import answered, worded
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
            return _of_server("MongoDB", cause)
        case ProjectionUnavailable():
            return _of_server("Elasticsearch", cause)
        case NatsError() | JetStreamError():
            return _of_server("NATS", cause)
        case ConnectionError():
            return Failure(f"no connection: {cause}\n{load().advice(*SERVERS)}", 1)
        case OSError():
            return Failure(str(cause), 1)
    return Failure(
        f"{type(cause).__name__}: {cause}\n"
        f"This should not happen. {PREFIX}LOG_LEVEL=DEBUG shows where it did.",
        1,
    )


def _of_server(name: str, cause: BaseException) -> Failure:
    """Only one that is silent may have to be started."""
    advice = "" if answered(cause) else f"\n{load().advice(name.lower())}"
    return Failure(f"{worded(name, cause)}{advice}", 1)
