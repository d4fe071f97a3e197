"""Downloads: a video arrives whole under its name, or not at all, and is gone on with."""

from modelmax_async._download._manager import Downloads
from modelmax_async._download._progress import OnProgress

__all__ = ["Downloads", "OnProgress"]
