"""Downloads: a video arrives whole under its name, or not at all, and is gone on with."""

from modelmax_async._download.downloads import Downloads
from modelmax_async._download.progress import OnProgress

__all__ = ["Downloads", "OnProgress"]
