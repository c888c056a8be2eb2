"""Process managers at work: reactions to events, and deadlines, as commands executed once."""

from pipeline.processes.runner import ProcessRunner
from pipeline.processes.running import Processes

__all__ = ["ProcessRunner", "Processes"]
