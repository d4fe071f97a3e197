"""A local ModelMax for demos, tests and benchmarks.

It serves the four endpoints as the API documents them, in process or on a socket, and counts
the calls that it bills. It shares no code with the client, so that the two can disagree.
"""

from modelmax_async.emulator._app import Emulator
from modelmax_async.emulator._content import Content, sample_mp4
from modelmax_async.emulator._faults import Fault
from modelmax_async.emulator._jobs import EmulatedJob, JobScript
from modelmax_async.emulator._requests import Received

__all__ = ["Content", "EmulatedJob", "Emulator", "Fault", "JobScript", "Received", "sample_mp4"]

for _name in __all__:
    globals()[_name].__module__ = __name__
