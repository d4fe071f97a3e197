"""A process for tests to kill: it downloads one video, and prints its progress.

Its arguments: the base URL, the request id, the video's URL, the directory.
"""

from __future__ import annotations

import asyncio
import sys

from support import on_socket

from modelmax_async import Result, Video


async def main() -> None:
    url, request_id, video, directory = sys.argv[1:]
    result = Result(request_id, "veo-3", (Video(video, 0),))
    async with on_socket(url) as client:
        await client.download(
            result,
            directory,
            on_progress=lambda done, _: print(done, flush=True),  # noqa: T201 - the test reads it
        )


asyncio.run(main())
