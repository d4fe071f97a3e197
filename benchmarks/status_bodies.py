"""The status of a job, in the words of the API and of the other clients' APIs.

The other clients read their status from ``/v1/tasks/{id}`` (runwayml) and ``/v1/videos/{id}``
(openai). The bodies hold the fields that those clients declare as required.
"""

from __future__ import annotations

from collections.abc import Callable


def _queue(request_id: bytes, done: bool) -> bytes:  # noqa: FBT001 - the only flag of a small table
    word = b"COMPLETED" if done else b"IN_PROGRESS"
    return b'{"request_id": "%b", "status": "%b"}' % (request_id, word)


def _with_logs(request_id: bytes, done: bool) -> bytes:  # noqa: FBT001 - as above
    """Return the same with the logs that fal-client requires."""
    return _queue(request_id, done)[:-1] + b', "logs": null}'


def _task(request_id: bytes, done: bool) -> bytes:  # noqa: FBT001 - as above
    state = b'"SUCCEEDED", "output": []' if done else b'"RUNNING", "progress": 0.5'
    created = b'"createdAt": "2026-01-01T00:00:00Z"'
    return b'{"id": "%b", %b, "status": %b}' % (request_id, created, state)


def _video(request_id: bytes, done: bool) -> bytes:  # noqa: FBT001 - as above
    state = b'"completed", "progress": 100' if done else b'"in_progress", "progress": 50'
    kind = b'"object": "video", "created_at": 0, "model": "sora-2"'
    shape = b'"seconds": "8", "size": "1280x720"'
    return b'{"id": "%b", %b, %b, "status": %b}' % (request_id, kind, shape, state)


#: By the path's second segment, or by the kind of the queue's own status.
SHAPES: dict[bytes, Callable[[bytes, bool], bytes]] = {
    b"queue": _queue,
    b"logs": _with_logs,
    b"tasks": _task,
    b"videos": _video,
}
#: Those that another client's path asks for.
FOREIGN = frozenset({b"tasks", b"videos"})
