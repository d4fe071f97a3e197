"""Downloads: a video is saved whole or not at all, and an interrupted transfer is resumed."""

from modelmax_async._download.downloads import Downloads
from modelmax_async._download.names import NameTemplate, read_template
from modelmax_async._download.progress import OnProgress
from modelmax_async._download.streams import VideoStream
from modelmax_async._download.transfer import MAX_BYTES

__all__ = [
    "MAX_BYTES",
    "Downloads",
    "NameTemplate",
    "OnProgress",
    "VideoStream",
    "read_template",
]
