"""What a worker shows of its processes."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATE = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
OUTCOMES = ("executed", "refused", "repeated", "changed", "nothing")


class ProcessMetrics:
    """Of all processes of the worker, by the process's name. The label is not `process`: that says
    which of `bank worker --processes` has the figures."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.reactions = Counter(
            "bank_process_reactions",
            "Events and deadlines that a process has answered",
            ("name", "input"),
            registry=registry,
        )
        self.commands = Counter(
            "bank_process_commands",
            "Commands of a process: executed, refused, repeated (executed before), changed "
            "(another one was executed before), or with nothing to do",
            ("name", "outcome"),
            registry=registry,
        )
        self.late = Histogram(
            "bank_process_deadline_late_seconds",
            "How long after its time a deadline was answered",
            ("name",),
            buckets=_LATE,
            registry=registry,
        )
        self.leading = Gauge(
            "bank_process_leading",
            "1 in the worker that runs the process, 0 in the others",
            ("name",),
            registry=registry,
        )
        self.lag = Gauge(
            "bank_process_lag_seconds",
            "Age of what the process has reacted to, in the worker that runs it; 0 in the others",
            ("name",),
            registry=registry,
        )
        self.overdue = Gauge(
            "bank_process_overdue",
            "Instances whose deadline or next attempt has come, as the worker that runs it sees",
            ("name",),
            registry=registry,
        )
        self.overdue_seconds = Gauge(
            "bank_process_overdue_seconds",
            "How long ago the first of these came, as the same worker sees; 0: none",
            ("name",),
            registry=registry,
        )
        self.parked = Gauge(
            "bank_process_parked",
            "Instances that can't react, as the worker that runs the process sees",
            ("name",),
            registry=registry,
        )

    def begin(self, process: str) -> None:
        """Show the process from the start."""
        for outcome in OUTCOMES:
            self.commands.labels(process, outcome)
        for what in ("event", "deadline"):
            self.reactions.labels(process, what)
        self.late.labels(process)
        for gauge in (
            self.leading,
            self.lag,
            self.overdue,
            self.overdue_seconds,
            self.parked,
        ):
            gauge.labels(process)
