"""The ``.part`` file: it has one writer at a time, and its lock is always released."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from download_support import REEF, SAMPLE, leave_part, ready, resume_info_for
from support import names, on_socket, result_of, until

from modelmax_async import DownloadError, RetryPolicy
from modelmax_async._download import directory, locking, part_file
from modelmax_async._download.directory import SavedVideo
from modelmax_async._download.file_lock import try_lock
from modelmax_async._download.part_file import PartFile, lock_part
from modelmax_async._download.part_names import ResumeInfo
from modelmax_async._download.shared_files import NotAFileError
from modelmax_async.emulator import Content, Emulator

pytestmark = pytest.mark.anyio


async def lock_or_find(target: Path, *, overwrite: bool) -> PartFile | SavedVideo:
    async with locking.locked_part(
        target, nullcontext, overwrite=overwrite, give_up_after=1
    ) as found:
        return found


def test_two_threads_never_hold_the_lock_together(tmp_path: Path) -> None:
    """Threads lock, rename, write and finish the same file."""
    target = tmp_path / REEF
    holders: list[int] = []
    faults: list[str] = []

    def work(number: int) -> None:
        for turn in range(40):
            part = lock_part(target)
            if part is None:
                continue
            holders.append(number)
            if len(holders) > 1:
                faults.append(f"{holders}")
            for resume_info in (ResumeInfo("0" * 16, f'"{turn % 3}"', 5), None, None):
                part.reset(resume_info)
            part.append(b"12345")
            holders.remove(number)
            if turn % 5 == 0:
                part.finish()
            part.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == faults
    assert b"12345" == target.read_bytes()


def test_part_being_renamed_is_not_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / REEF
    marked = leave_part(tmp_path, resume_info_for("x"), b"held")
    real = directory.find_part
    monkeypatch.setattr(
        part_file, "find_part", lambda _: monkeypatch.setattr(part_file, "find_part", real)
    )  # the first look misses a file that is being renamed

    assert lock_part(target) is None
    assert [marked.name] == names(tmp_path)


def test_part_that_another_writer_has_just_created_is_not_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{REEF}.part").write_bytes(b"held")
    monkeypatch.setattr(part_file, "find_part", lambda _: None)

    assert lock_part(tmp_path / REEF) is None
    assert b"held" == (tmp_path / f"{REEF}.part").read_bytes()


def test_part_is_not_locked_if_another_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = leave_part(tmp_path, resume_info_for("x"), b"behind")
    before = leave_part(tmp_path, resume_info_for("x", '"longer"'), b"before")
    real, looks = directory.find_part, iter([behind])
    monkeypatch.setattr(
        part_file, "find_part", lambda target: next(looks, None) or real(target)
    )

    assert lock_part(tmp_path / REEF) is None
    assert sorted([behind.name, before.name]) == names(tmp_path)


def test_part_whose_name_belongs_to_another_file_is_not_renamed(tmp_path: Path) -> None:
    part = lock_part(tmp_path / REEF)
    assert part is not None
    part.append(b"mine")
    part.path.unlink()
    part.path.write_bytes(b"beginning of another's")

    with pytest.raises(FileNotFoundError, match="removed"):
        part.finish()
    part.close()

    assert [f"{REEF}.part"] == names(tmp_path)


def test_part_that_lost_its_resume_info_is_recognised(tmp_path: Path) -> None:
    target = tmp_path / REEF
    part = lock_part(target)
    assert part is not None
    for resume_info in (resume_info_for("x"), None, None):
        part.reset(resume_info)
    name = part.path.name

    assert lock_part(target) is None
    part.close()

    assert f"{REEF}.0.part" == name
    assert [] == names(tmp_path)


def test_part_removed_before_it_is_locked_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / REEF
    part = leave_part(tmp_path, None, b"")
    lock = try_lock

    def late(number: int) -> bool:
        part.unlink()
        return lock(number)

    monkeypatch.setattr(part_file, "try_lock", late)
    gone = lock_part(target)
    monkeypatch.setattr(part_file, "find_part", lambda _: part)
    monkeypatch.setattr(directory, "find_part", lambda _: part)

    assert gone is None
    assert lock_part(target) is None
    assert directory.part_progress(target) is None


def test_closed_part_cannot_be_written(tmp_path: Path) -> None:
    part = lock_part(tmp_path / REEF)
    assert part is not None
    part.close()

    with pytest.raises(ValueError, match="closed"):
        part.append(b"x")

    assert not part.close()


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock_part(tmp_path / "gone" / REEF)


def test_directory_removed_before_the_part_is_created_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "find_part", lambda _: None)

    with pytest.raises(FileNotFoundError):
        lock_part(tmp_path / "gone" / REEF)


def test_forked_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    part = lock_part(tmp_path / REEF)
    assert part is not None
    part.reset(ResumeInfo("0" * 16, '"a"', None))
    part.append(b"some")
    child = os.dup(part._open())  # as after a fork: another descriptor of the open file
    part.close()
    again = lock_part(tmp_path / REEF)
    os.close(child)

    assert again is not None
    assert 4 == again.size
    again.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_lock_taken_by_a_cancelled_thread_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    target = tmp_path / REEF
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def slow(path: Path) -> PartFile | None:
        part = lock_part(path) if when == "after" else None
        begun.set()
        go.wait(5)
        part = part or lock_part(path)
        done.set()
        return part

    monkeypatch.setattr(locking, "lock_part", slow)
    task = asyncio.create_task(lock_or_find(target, overwrite=True))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    await asyncio.wait([task])
    go.set()
    await asyncio.to_thread(done.wait, 5)
    await until(lambda: names(tmp_path) == [])
    again = await asyncio.to_thread(lock_part, target)

    assert task.cancelled()
    assert again is not None
    await asyncio.to_thread(again.close)


def test_lock_held_at_cancellation_is_released(tmp_path: Path) -> None:
    attempt = locking._LockAttempt(tmp_path / REEF, overwrite=False)
    attempt.run()
    attempt.abandon()

    assert [] == names(tmp_path)


async def test_video_saved_just_before_the_lock_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / REEF

    def last_moment(path: Path) -> PartFile | None:
        target.write_bytes(SAMPLE)
        return lock_part(path)

    def turned(path: Path) -> PartFile | None:
        target.unlink()
        target.mkdir()
        return lock_part(path)

    monkeypatch.setattr(locking, "lock_part", last_moment)
    found = await lock_or_find(target, overwrite=False)
    target.write_bytes(b"")
    monkeypatch.setattr(locking, "lock_part", turned)
    with pytest.raises(NotAFileError):
        await lock_or_find(target, overwrite=False)

    assert SavedVideo(target, len(SAMPLE)) == found
    assert [REEF] == names(tmp_path)


async def test_writer_without_progress_is_not_waited_for_indefinitely(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    held = await asyncio.to_thread(lock_part, tmp_path / REEF)
    assert held is not None
    async with on_socket(url, retry=RetryPolicy(give_up_after=0.2)) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(
            DownloadError, match=r"another download of this video has made no progress"
        ) as caught:
            await client.download(result, tmp_path)
    await asyncio.to_thread(held.close)

    assert caught.value.part is None
    assert 0 == emulator.contents["reef"]
    assert [] == names(tmp_path)


async def test_waiting_for_another_writer_does_not_block_other_downloads(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._download.open_files._OPEN", 1)
    other = await asyncio.to_thread(lock_part, tmp_path / "held-0.mp4")
    assert other is not None
    async with on_socket(url, max_in_flight=1) as client:
        result = await client.wait_for(emulator.add_job("reef"))
        waiting = asyncio.create_task(
            client.download(result_of(result.videos[0].url, request_id="held"), tmp_path)
        )
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            (path,) = await client.download(result, tmp_path)
        await asyncio.to_thread(other.close)
        (late,) = await waiting

    assert SAMPLE == path.read_bytes() == late.read_bytes()
