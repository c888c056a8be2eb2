"""All problem types of the two services: their meaning, and what to do about them.

They are told in the words of the bank; `of_another` has those for other applications.
"""

import re
from typing import Final, NamedTuple


class ProblemType(NamedTuple):
    """`name` makes the type, `/problems/{name}`, which never changes; nor does the status."""

    name: str
    status: int
    meaning: str
    remedy: str
    anywhere: bool = False
    """Any path may answer it."""

    @property
    def title(self) -> str:
        return title_of(self.name)

    @property
    def path(self) -> str:
        """The type as problems have it; its page is there."""
        return path_of(self.name)


def of_another(problem: ProblemType) -> ProblemType:
    """The type in the words of an application that is not the bank."""
    return problem._replace(meaning=_reworded(problem.meaning), remedy=_reworded(problem.remedy))


def _reworded(text: str) -> str:
    for bank, another in _WORDS:
        text = re.sub(bank, another, text)
    return text


_WORDS: Final = (
    (r"An account's id is 26 characters of 0-9 and A-Z\.", "The route says how."),
    (r"\b([Tt]he) account service\b", r"\1 command service"),
    (r"\baccount(s?)\b", r"aggregate\1"),
    (r"\b(another|[Tt]he) bank\b", r"\1 application"),
    (r"\ba payment could be made twice\b", "a command could be executed twice"),
)


def title_of(name: str) -> str:
    """The title that goes with a name."""
    return name.replace("-", " ").capitalize()


def path_of(name: str) -> str:
    """The type that goes with a name."""
    return f"/problems/{name}"


_EVERY: Final = (
    # What a request is.
    ProblemType(
        "invalid-json",
        400,
        "The body is no JSON, or one of its objects has a key twice.",
        "Send one JSON object in UTF-8. `detail` says what is wrong.",
    ),
    ProblemType(
        "invalid-body",
        400,
        "The body is not what its headers promise: cut off, or its chunks are none.",
        "Check `Content-Length` and `Transfer-Encoding`.",
    ),
    ProblemType(
        "invalid-input",
        400,
        "A field of the body or a parameter is missing or unknown, or its value is none for it. An"
        " object of a body may have 32 members, and a query 32 parameters.",
        "Each of `errors` names one: by `pointer` in the body, or by `parameter`. Mend them all.",
    ),
    ProblemType(
        "invalid-idempotency-key",
        400,
        "The header `Idempotency-Key` is empty, too long, not printable ASCII, or there twice.",
        "Send one key of 1 to 200 printable ASCII characters; a new UUID will do.",
    ),
    ProblemType(
        "invalid-if-match",
        400,
        "The header `If-Match` is no list of entity tags, and not `*`.",
        'Send the `ETag` of an earlier answer as it was, such as `"3"`.',
    ),
    ProblemType(
        "transfer-to-self",
        400,
        "Both sides of the transfer are the same account.",
        "Name two accounts. Nothing was moved.",
    ),
    ProblemType(
        "not-found",
        404,
        "No route has this path; most often an id in it is not written as an id.",
        "An account's id is 26 characters of 0-9 and A-Z. All routes are at `/docs`.",
        anywhere=True,
    ),
    ProblemType(
        "method-not-allowed",
        405,
        "The path exists, but not with this method.",
        "The header `Allow` lists the methods there are.",
        anywhere=True,
    ),
    ProblemType(
        "body-too-large",
        413,
        "The body is longer than 64 KiB.",
        "No command is that long: check what was sent.",
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        "The header `Content-Type` says that the body is something else than JSON.",
        "Send `Content-Type: application/json`.",
    ),
    ProblemType(
        "malformed-request",
        400,
        "What came is no HTTP request, or a line of its head is longer than 8 KiB. A file with a"
        " key that ends in CR and LF, put into a header as it is, makes such a request.",
        "Look at what the client sends byte by byte: neither log nor answer repeats it.",
        anywhere=True,
    ),
    ProblemType(
        "unsupported-encoding",
        415,
        "The header `Content-Encoding` says that the body is compressed. None is decoded.",
        "Send the body as it is, without that header.",
        anywhere=True,
    ),
    ProblemType(
        "request-timeout",
        408,
        "The body did not come within `BANK_HTTP_BODY_SECONDS`. Nothing was done.",
        "Send it again on a new connection.",
    ),
    ProblemType(
        "expectation-failed",
        417,
        "The header `Expect` asks for something else than `100-continue`.",
        "Leave it out.",
        anywhere=True,
    ),
    ProblemType(
        "head-too-large",
        431,
        "All header lines together are longer than 16 KiB.",
        "No request needs that much: look for cookies and for headers that proxies add.",
        anywhere=True,
    ),
    # Who asks.
    ProblemType(
        "invalid-authorization",
        400,
        "There is more than one header `Authorization`.",
        "Send one. A client and the proxy before it may each have added theirs.",
    ),
    ProblemType(
        "key-required",
        401,
        "Keys are on, and the request has none.",
        "Send `Authorization: Bearer bank_…`; whoever runs the bank makes keys with"
        " `bank keys create`.",
    ),
    ProblemType(
        "key-invalid",
        401,
        "There is no such key: it is another bank's or was revoked, its secret is another one, it"
        " has expired, or it is none at all.",
        "Ask whoever runs the bank for a new key.",
    ),
    ProblemType(
        "not-allowed",
        403,
        "The key is good, but not for this: its role may not, or the account is not its holder's,"
        " whether or not there is such an account.",
        "Use a key whose role may. `/docs` tells which roles each route lets in.",
    ),
    ProblemType(
        "cross-site",
        403,
        "Keys are off, and a browser has sent this for a page of another site, or under a name that"
        " such a page may have given to this machine.",
        "Nothing was done. Call the service localhost or by its address, or name it in"
        " `BANK_ALLOWED_HOSTS`; for pages of other sites, turn keys on.",
    ),
    ProblemType(
        "too-many-requests",
        429,
        "The key asks more often than it may. Nothing was done.",
        "Send it again after `Retry-After` seconds, and fewer from then on.",
    ),
    # What an account refuses.
    ProblemType(
        "account-not-found",
        404,
        "There is no such account; in a reading of the past, not by then. The balance service"
        " follows the events: it may not know an account that was opened just now.",
        "Check the id. After a command, ask the balance service with `min_version`.",
    ),
    ProblemType(
        "version-not-found",
        404,
        "The account has fewer events than that.",
        "Ask for a lower version, or for the account without one.",
    ),
    ProblemType(
        "hold-not-found",
        404,
        "The account has no open hold of that id: there was none, or it was captured, voided or has"
        " expired.",
        "Look at the account's holds and events. Nothing was moved.",
    ),
    ProblemType(
        "transfer-not-found",
        404,
        "That event of the account is not the one by which it sent that transfer.",
        "Take `id`, `version` and `transfer.id` from the transfer's answer, or from the statement"
        " of the account that paid.",
    ),
    ProblemType(
        "account-exists",
        409,
        "The id that was made for a new account is taken already. It nearly never happens.",
        "Send the command again.",
    ),
    ProblemType(
        "account-frozen",
        409,
        "The account is frozen: it takes no money, gives none, keeps its owner and can't be"
        " closed. Of a transfer, `account` names the one in the way.",
        "Unfreeze it first.",
    ),
    ProblemType(
        "account-not-frozen",
        409,
        "Only a frozen account can be unfrozen.",
        "Nothing is to be done: the account is open.",
    ),
    ProblemType(
        "account-closed",
        409,
        "The account is closed for good: it takes no command at all.",
        "Use another account.",
    ),
    ProblemType(
        "account-not-empty",
        409,
        "Only an account with a balance of 0 can be closed.",
        "Withdraw or transfer what is left, then close it.",
    ),
    ProblemType(
        "too-many-holds",
        409,
        "The account has 100 open holds, and may not have more.",
        "Capture or void one, or wait until one expires. Nothing was held.",
    ),
    ProblemType(
        "transfer-reversed",
        409,
        "The transfer was reversed before, and that is done once.",
        "Look at the account's statement. Nothing was moved.",
    ),
    ProblemType(
        "transfer-not-reversible",
        409,
        "The transfer is itself a reversal.",
        "Transfer the money again. Nothing was moved.",
    ),
    ProblemType(
        "hold-too-small",
        422,
        "More can't be captured than is held.",
        "Capture that, and withdraw the rest. Nothing was moved.",
    ),
    ProblemType(
        "hold-too-long",
        422,
        "A hold ends at a time to come, within 31 days from now.",
        "Set another `expires_at`, or `seconds`. Nothing was held.",
    ),
    ProblemType(
        "insufficient-funds",
        422,
        "Less is available than that: the balance, less what is held.",
        "Take less, or pay in first. Nothing was moved.",
    ),
    ProblemType(
        "balance-too-large",
        422,
        "The balance would reach 2^53 minor units, more than every JSON reader keeps exact.",
        "Pay in less, or into another account. Nothing was moved.",
    ),
    ProblemType(
        "payee-refused",
        422,
        "The account to be paid takes no money, or there is none. A customer is not told which.",
        "Check the id, and ask its holder. Nothing was moved.",
    ),
    # Of an application that is not the bank.
    ProblemType(
        "aggregate-not-found",
        404,
        "There is no such aggregate: it has no event.",
        "Check the id, and that it is one of such an aggregate.",
    ),
    ProblemType(
        "of-another-aggregate",
        409,
        "The id is that of an aggregate of another sort, whose route is another one. Nothing was"
        " stored.",
        "Send the command to the route of that sort, or take another id.",
    ),
    ProblemType(
        "same-aggregate",
        400,
        "A command over several aggregates names one of them twice. Nothing was stored.",
        "Name each once.",
    ),
    # On which terms a command is sent.
    ProblemType(
        "version-mismatch",
        412,
        "The account has another version than `If-Match` asks for. No event was stored.",
        "Read the account again, decide anew, and send that with its `ETag`.",
    ),
    ProblemType(
        "subscription-changed",
        412,
        "The subscription is not as `If-Match` asks for, or it exists and the request has no"
        " `If-Match`. Another consumer may use the same name. Nothing was changed.",
        "Read the subscription, and send its `ETag` as `If-Match` if you still want to.",
    ),
    ProblemType(
        "too-many-subscriptions",
        409,
        "There are 1000 subscriptions, and there may not be more. Nothing was kept.",
        "Delete those that nobody uses any more: `GET /subscriptions` lists them.",
    ),
    ProblemType(
        "idempotency-key-reused",
        422,
        "Another command was executed under this idempotency key. Nothing was done.",
        "Take a new key for each command; repeat a command with its body as it was.",
    ),
    ProblemType(
        "too-many-conflicts",
        409,
        "Others wrote to the account in each of several attempts. Nothing was stored.",
        "Send the command again after `Retry-After` seconds.",
    ),
    # What the balance service knows.
    ProblemType(
        "not-parked",
        404,
        "No account of that id is parked in this projection.",
        "`GET /parked` lists those that are; a retry that worked takes one off.",
    ),
    ProblemType(
        "document-not-found",
        404,
        "The projection has no document of that id, or not yet.",
        "After a command, ask with `min_version`: then the answer waits for it.",
    ),
    ProblemType(
        "projection-not-found",
        404,
        "The bank keeps no projection of that name.",
        "Name one of those in the setting `BANK_PROJECTIONS`.",
    ),
    ProblemType(
        "subscription-not-found",
        404,
        "There is no subscription of that name.",
        "`PUT /subscriptions/{name}` makes one; `GET /subscriptions` lists those that there are.",
    ),
    ProblemType(
        "trace-not-found",
        404,
        "No event of that correlation id was found where it was searched: the id is unknown, the"
        " command was refused, which leaves no event, or it is older than what was searched.",
        "Check the id. Name an account of the command as `account`, or use `bank trace --since`.",
    ),
    ProblemType(
        "rebuild-not-found",
        404,
        "There is no rebuild of that id, or it is so long over that it was forgotten.",
        "`GET /rebuilds` lists those that are known.",
    ),
    ProblemType(
        "rebuild-busy",
        409,
        "Another rebuild runs, which is not the one that was asked for: `rebuild` is its id.",
        "Wait until it is done, or cancel it.",
    ),
    ProblemType(
        "rebuild-finished",
        409,
        "The rebuild is over, or readers see what it built: it can't be called off any more.",
        "Nothing is to be done. To go back to the events, start another one.",
    ),
    # What does not answer.
    ProblemType(
        "internal-error",
        500,
        "The fault is ours. A command may have been executed.",
        "Tell whoever runs the bank the correlation id: the log has all of it. A command with an"
        " idempotency key may be sent again.",
        anywhere=True,
    ),
    ProblemType(
        "keys-unavailable",
        503,
        "The keys can't be read, or not for so long that they may have changed.",
        "Wait until NATS answers again: without keys, nobody is let in.",
    ),
    ProblemType(
        "not-ready",
        503,
        "Something that the service depends on does not answer: `missing` names it.",
        "Wait; it is asked anew each time.",
    ),
    ProblemType(
        "account-unreadable",
        503,
        "The account has an event that this service can't read, most often of a newer release."
        " Nothing is decided on such an account, and it is not shown.",
        "Upgrade the service; `detail` tells which event it is.",
    ),
    ProblemType(
        "aggregate-unreadable",
        503,
        "The aggregate has an event that this service can't read: of a newer release, or of another"
        " kind of aggregate. Nothing is decided on it, and it is not shown.",
        "Check the id, and upgrade the service; `detail` tells which event it is.",
    ),
    ProblemType(
        "store-unavailable",
        503,
        "The event store does not answer. A command may have been stored all the same.",
        "Send it again with the same idempotency key: it is executed once. Without a key, look"
        " at the account first.",
    ),
    ProblemType(
        "store-refused",
        503,
        "MongoDB refused to store the command: by a rule of the collection, for want of rights or"
        " space, or the like. `detail` has its reason. Nothing was stored.",
        "Tell whoever runs the bank: the same command is refused until they have changed that.",
    ),
    ProblemType(
        "store-unguarded",
        503,
        "A unique index of the event store is missing or not what it should be, or the collection"
        " was replaced just now. Without it a payment could be made twice. Nothing was stored.",
        "Try again after `Retry-After` seconds. If it stays, the readiness of the account service"
        " tells whoever runs the bank which index it is, and what prevents it.",
    ),
    ProblemType(
        "pipeline-unavailable",
        503,
        "NATS JetStream does not answer, which keeps rebuilds and parked accounts.",
        "Try again after `Retry-After` seconds. Documents can be read meanwhile.",
    ),
    ProblemType(
        "too-many-streams",
        503,
        "The service has as many open event streams as it may have: half of its connections.",
        "Try again after `Retry-After` seconds; a browser's `EventSource` has given up by then, so"
        " make a new one. Or read pages, as often as you need.",
    ),
    ProblemType(
        "accounts-unavailable",
        503,
        "The balance service, which hands the page's commands on, has no answer of the account"
        " service. `detail` tells whether the command may have been executed.",
        "Send it again with the same idempotency key: it is executed once. If it stays, check that"
        " the account service runs, and that `BANK_ACCOUNTS_URL` is its address.",
    ),
    ProblemType(
        "projection-unavailable",
        503,
        "Elasticsearch does not answer, or has no projection yet.",
        "Try again after `Retry-After` seconds. The account service reads from the events.",
    ),
)

PROBLEM_TYPES: Final = {each.name: each for each in _EVERY}
"""By name."""
