"""Reading a directory: a video removed by another process, and a truncated file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from download_support import DIGEST, REEF, SAMPLE, WEBM

from modelmax_async._download import directory
from modelmax_async._download.directory import SavedVideo


def test_video_removed_between_stat_and_open_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process replaces the MP4 with a WebM."""
    target = tmp_path / REEF
    target.write_bytes(SAMPLE)
    (tmp_path / f"reef-{DIGEST}-0.webm").write_bytes(WEBM)
    real = os.open

    def late(path: Path, flags: int) -> int:
        target.unlink(missing_ok=True)
        return real(path, flags)

    monkeypatch.setattr(os, "open", late)

    assert SavedVideo(tmp_path / f"reef-{DIGEST}-0.webm", len(WEBM)) == directory.find_video(
        target
    )


def test_truncated_file_is_scanned_and_continued(tmp_path: Path) -> None:
    for size in (0, 4, 12, 40, 950):
        path = tmp_path / f"{size}"
        path.write_bytes(SAMPLE[:size])
        with path.open("rb") as file:
            boxes = directory.scan(file.fileno(), size)
        boxes.feed(SAMPLE[size:], size)

        assert boxes.complete(len(SAMPLE), strict=True)
