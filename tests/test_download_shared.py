"""Downloads into a directory that other users may write to: what they plant is never used."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from download_support import DIGEST, REEF, SAMPLE, WEBM, ready, webm
from support import names, on_socket

from modelmax_async import DownloadError
from modelmax_async._download import locking, part_opening, shared_files
from modelmax_async._download.directory import find_video, part_progress, sync_directory
from modelmax_async._download.file_lock import try_lock
from modelmax_async._download.part_file import lock_part
from modelmax_async._download.part_names import ResumeInfo, part_name
from modelmax_async._download.shared_files import NotAFileError, UntrustedFileError
from modelmax_async.emulator import Content, Emulator

pytestmark = pytest.mark.anyio

ANOTHER = 4711
WEBM_NAME = f"reef-{DIGEST}-0.webm"


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """The owners of files that the test gives to another user, which needs no privilege."""
    owners: dict[Path, int] = {}
    lstat, fstat, stat = os.lstat, os.fstat, os.stat

    def owned(status: os.stat_result) -> os.stat_result:
        for path, user in owners.items():
            with suppress(FileNotFoundError):
                if os.path.samestat(lstat(path), status):
                    return os.stat_result([*status[:4], user, *status[5:]])
        return status

    monkeypatch.setattr(os, "lstat", lambda *a, **o: owned(lstat(*a, **o)))
    monkeypatch.setattr(os, "fstat", lambda number: owned(fstat(number)))
    monkeypatch.setattr(os, "stat", lambda *a, **o: owned(stat(*a, **o)))
    return owners


@pytest.fixture
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of this user's outside the directory: a complete video."""
    path = tmp_path_factory.mktemp("private") / "other.mp4"
    path.write_bytes(SAMPLE)
    return path


async def refused(
    emulator: Emulator, url: str, directory: Path, says: str, **options: Any
) -> str:
    """Download, and return the message of the error; no video was requested."""
    before = names(directory)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match=says) as caught:
            async with asyncio.timeout(5):
                await client.download(result, directory, **options)

    assert 0 == emulator.contents["reef"]
    assert before == names(directory)
    assert isinstance(caught.value.__cause__, OSError)
    return str(caught.value)


def deny_opening(monkeypatch: pytest.MonkeyPatch, path: Path, mode: int = os.O_RDONLY) -> None:
    """Open this file no more, or not for writing (``O_RDWR``); root could open it."""
    real = os.open

    def denied(place: Path, flags: int, *rest: int) -> int:
        if place == path and flags & mode == mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return real(place, flags, *rest)

    monkeypatch.setattr(os, "open", denied)


@pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard", "symbolic"])
async def test_part_that_is_a_link_is_never_written(
    emulator: Emulator,
    url: str,
    tmp_path: Path,
    victim: Path,
    link: Callable[[Path, Path], None],
) -> None:
    link(victim, tmp_path / f"{REEF}.part")

    said = await refused(emulator, url, tmp_path, r"\.part is a (hard|symbolic) link")

    assert SAMPLE == victim.read_bytes()
    assert "remove that file, or call download() with another directory" in said


async def test_part_of_another_user_is_not_used(
    emulator: Emulator, url: str, tmp_path: Path, users: dict[Path, int]
) -> None:
    part = tmp_path / f"{REEF}.part"
    part.touch()
    users[part] = ANOTHER

    said = await refused(
        emulator, url, tmp_path, r"\.part belongs to another user \(uid 4711\)"
    )

    assert "remove that file" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", [REEF, f"{REEF}.part"])
async def test_file_that_another_user_really_owns_is_not_used(
    emulator: Emulator, url: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(SAMPLE)
    os.chown(tmp_path / name, 65534, 65534)

    await refused(emulator, url, tmp_path, r"belongs to another user \(uid 65534\)")


@pytest.mark.parametrize("exists", [True, False])
async def test_link_in_place_of_the_video_is_not_followed_but_can_be_replaced(
    emulator: Emulator, url: str, tmp_path: Path, victim: Path, *, exists: bool
) -> None:
    if not exists:
        victim.unlink()
    (tmp_path / REEF).symlink_to(victim)

    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match="a symbolic link, which is not") as caught:
            await client.download(result, tmp_path)
        refused = emulator.contents["reef"]
        (path,) = await client.download(result, tmp_path, overwrite=True)

    assert 0 == refused
    assert "call download() with overwrite=True to replace that file" in str(caught.value)
    assert not path.is_symlink()
    assert exists == victim.exists()
    assert 1 == emulator.billed["reef"]


async def test_video_of_another_user_is_not_taken_for_the_saved_one(
    emulator: Emulator, url: str, tmp_path: Path, users: dict[Path, int]
) -> None:
    (tmp_path / REEF).write_bytes(SAMPLE)
    users[tmp_path / REEF] = ANOTHER

    await refused(emulator, url, tmp_path, "belongs to another user")


async def test_video_of_another_user_is_replaced_whatever_its_container(
    emulator: Emulator, url: str, tmp_path: Path, users: dict[Path, int]
) -> None:
    """Otherwise, later calls would find the other user's MP4 before the WebM."""
    (tmp_path / REEF).write_bytes(SAMPLE)
    users[tmp_path / REEF] = ANOTHER
    async with on_socket(url) as client:
        result = await ready(client, emulator, webm())
        await client.download(result, tmp_path, overwrite=True)

    assert [WEBM_NAME] == names(tmp_path)


def test_videos_of_the_superuser_and_of_the_owner_of_the_directory_are_used(
    tmp_path: Path, users: dict[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system may give all files of all users to one of them."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    video = tmp_path / REEF
    video.write_bytes(SAMPLE)
    users |= {tmp_path: ANOTHER, video: 0}
    of_root = find_video(video)
    users[video] = ANOTHER

    assert of_root == find_video(video)
    assert of_root is not None


@pytest.mark.parametrize("mode", [0o770, 0o2775, 0o707])
async def test_video_of_another_user_is_used_where_users_can_replace_files(
    emulator: Emulator, url: str, tmp_path: Path, users: dict[Path, int], mode: int
) -> None:
    """In the directory of a group, each member finds what another one has saved."""
    tmp_path.chmod(mode)
    (tmp_path / REEF).write_bytes(SAMPLE)
    users[tmp_path / REEF] = ANOTHER
    async with on_socket(url) as client:
        paths = await client.download(await ready(client, emulator, Content()), tmp_path)

    assert [tmp_path / REEF] == paths
    assert 0 == emulator.contents["reef"]


@pytest.mark.parametrize("mode", [0o1777, 0o3775, 0o755])
def test_files_of_another_user_are_not_used_where_only_their_owner_can_replace_them(
    tmp_path: Path, users: dict[Path, int], mode: int
) -> None:
    tmp_path.chmod(mode)
    for name in (REEF, f"{REEF}.part"):
        (tmp_path / name).write_bytes(SAMPLE)
        users[tmp_path / name] = ANOTHER

    with pytest.raises(UntrustedFileError, match=r"\.mp4 belongs to another user"):
        find_video(tmp_path / REEF)
    with pytest.raises(UntrustedFileError, match=r"\.part belongs to another user"):
        lock_part(tmp_path / REEF)
    assert [REEF, f"{REEF}.part"] == names(tmp_path)


async def test_incomplete_video_of_another_user_is_replaced(
    emulator: Emulator, url: str, tmp_path: Path, users: dict[Path, int]
) -> None:
    tmp_path.chmod(0o2775)
    (tmp_path / REEF).write_bytes(SAMPLE[:-1])
    users[tmp_path / REEF] = ANOTHER
    async with on_socket(url) as client:
        await client.download(await ready(client, emulator, Content()), tmp_path)

    assert 1 == emulator.contents["reef"]
    assert SAMPLE == (tmp_path / REEF).read_bytes()


@pytest.mark.parametrize("overwrite", [True, False])
async def test_video_of_another_user_that_cannot_be_read_can_be_replaced(
    emulator: Emulator,
    url: str,
    tmp_path: Path,
    users: dict[Path, int],
    monkeypatch: pytest.MonkeyPatch,
    *,
    overwrite: bool,
) -> None:
    tmp_path.chmod(0o2775)
    (tmp_path / REEF).write_bytes(b"unreadable")
    users[tmp_path / REEF] = ANOTHER
    deny_opening(monkeypatch, tmp_path / REEF)

    if not overwrite:
        said = await refused(
            emulator, url, tmp_path, r"another user \(uid 4711\) and cannot be read"
        )
        assert "overwrite=True" in said
        return
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        await client.download(result, tmp_path, overwrite=True)
    monkeypatch.undo()

    assert SAMPLE == (tmp_path / REEF).read_bytes()


def test_own_video_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o2775)
    (tmp_path / REEF).write_bytes(SAMPLE)
    deny_opening(monkeypatch, tmp_path / REEF)

    with pytest.raises(PermissionError):
        find_video(tmp_path / REEF)


@pytest.fixture
def part(tmp_path: Path, users: dict[Path, int]) -> Path:
    """A ``.part`` that another user left in a directory that a group can write to."""
    tmp_path.chmod(0o2775)
    path = tmp_path / part_name(REEF, ResumeInfo("0" * 16, '"another"', len(SAMPLE)))
    path.write_bytes(b"another")
    users[path] = ANOTHER
    return path


async def test_part_of_another_user_is_replaced_and_not_written_to(
    emulator: Emulator, url: str, tmp_path: Path, part: Path
) -> None:
    with part.open("rb") as opened:
        async with on_socket(url) as client:
            await client.download(await ready(client, emulator, Content()), tmp_path)
        left = opened.read()

    assert [REEF] == names(tmp_path)
    assert SAMPLE == (tmp_path / REEF).read_bytes()
    assert b"another" == left


async def test_download_of_another_user_is_waited_for(
    emulator: Emulator,
    url: str,
    part: Path,
    users: dict[Path, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = part.with_name(REEF)
    users[video] = ANOTHER
    looks = 0
    with part.open("r+b") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)

        def proceed(target: Path) -> tuple[str, int] | None:
            nonlocal looks
            looks += 1
            if looks == 2:
                part.write_bytes(SAMPLE)
                part.rename(target)
            return part_progress(target)

        monkeypatch.setattr(locking, "part_progress", proceed)
        async with on_socket(url) as client:
            paths = await client.download(await ready(client, emulator, Content()), part.parent)

    assert 2 == looks
    assert [video] == paths
    assert 0 == emulator.contents["reef"]


@pytest.mark.parametrize("owner", [0, 1000])
def test_part_of_a_trusted_user_that_cannot_be_written_is_removed(
    tmp_path: Path,
    part: Path,
    users: dict[Path, int],
    monkeypatch: pytest.MonkeyPatch,
    owner: int,
) -> None:
    """The files of the owner of the directory, which are 0644 unless a umask says otherwise."""
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    users |= {tmp_path: 1000, part: owner}
    deny_opening(monkeypatch, part, os.O_RDWR)

    assert lock_part(tmp_path / REEF) is None
    assert not part.exists()


def test_own_part_that_cannot_be_written_stays(
    tmp_path: Path,
    part: Path,
    users: dict[Path, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users[part] = os.geteuid()
    deny_opening(monkeypatch, part, os.O_RDWR)

    with pytest.raises(PermissionError):
        lock_part(tmp_path / REEF)
    assert part.exists()


def test_part_that_cannot_be_read_stays_and_is_named(
    tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny_opening(monkeypatch, part)

    with pytest.raises(UntrustedFileError, match=r"\.part belongs to another user"):
        lock_part(tmp_path / REEF)
    assert part.exists()


@pytest.mark.parametrize("step", ["try_lock", "unlink"])
def test_part_that_cannot_be_locked_or_removed_stays_and_is_named(
    tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """NFS locks no file that is open for reading only."""

    def deny(*_: Any) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(part_opening if step == "try_lock" else Path, step, deny)

    with pytest.raises(UntrustedFileError, match=r"\.part belongs to another user"):
        lock_part(tmp_path / REEF)
    assert part.exists()


def test_part_that_disappears_meanwhile_is_looked_for_again(
    tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shared_files.open_trusted

    def disappear(path: Path, flags: int, **options: Any) -> int:
        if options["foreign"]:
            part.unlink()
        return real(path, flags, **options)

    monkeypatch.setattr(part_opening, "open_trusted", disappear)

    assert lock_part(tmp_path / REEF) is None
    assert [] == names(tmp_path)


def test_part_that_is_replaced_before_it_is_locked_stays(
    tmp_path: Path, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = try_lock

    def replace(number: int) -> bool:
        part.unlink()
        part.write_bytes(b"a new one")
        return real(number)

    monkeypatch.setattr(part_opening, "try_lock", replace)

    assert lock_part(tmp_path / REEF) is None
    assert b"a new one" == part.read_bytes()


def test_new_part_that_cannot_be_created_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny_opening(monkeypatch, tmp_path / part_name(REEF, None))

    with pytest.raises(PermissionError):
        lock_part(tmp_path / REEF)


def test_systems_without_user_ids_are_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "geteuid")
    (tmp_path / REEF).write_bytes(SAMPLE)

    assert find_video(tmp_path / REEF) is not None


@pytest.mark.parametrize("sticky", [True, False])
def test_video_with_a_hard_link_is_refused_only_in_a_sticky_directory(
    tmp_path: Path, victim: Path, *, sticky: bool
) -> None:
    """Backups make hard links. Where files can be renamed by others, refusing them is vain."""
    (tmp_path / REEF).hardlink_to(victim)
    tmp_path.chmod(0o1777 if sticky else 0o777)

    if sticky:
        with pytest.raises(UntrustedFileError, match="perhaps to another video"):
            find_video(tmp_path / REEF)
    else:
        assert find_video(tmp_path / REEF) is not None


@pytest.mark.parametrize("name", [REEF, f"{REEF}.part"])
def test_pipe_swapped_in_before_the_file_is_opened_blocks_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(SAMPLE)
    real = os.open

    def swapped(place: Path, flags: int, *rest: int) -> int:
        if place == path:
            path.unlink()
            os.mkfifo(path)
        return real(place, flags, *rest)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(NotAFileError):
        (find_video if name == REEF else lock_part)(tmp_path / REEF)


@pytest.mark.parametrize("name", [REEF, f"{REEF}.part"])
def test_link_swapped_in_before_the_file_is_opened_is_not_followed(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    check = shared_files._check

    def swapped(place: Path, *status: Any, **options: Any) -> None:
        check(place, *status, **options)
        path.unlink()
        path.symlink_to(victim)

    monkeypatch.setattr(shared_files, "_check", swapped)
    with pytest.raises(OSError, match="symbolic links") as caught:
        (find_video if name == REEF else lock_part)(tmp_path / REEF)

    assert errno.ELOOP == caught.value.errno
    assert SAMPLE == victim.read_bytes()


def test_link_is_not_followed_to_see_the_progress_of_another_writer(
    tmp_path: Path, victim: Path
) -> None:
    (tmp_path / f"{REEF}.part").symlink_to(victim)

    progress = part_progress(tmp_path / REEF)

    assert progress is not None
    assert len(SAMPLE) != progress[1]


def test_pipe_in_place_of_the_directory_blocks_no_thread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "videos")

    sync_directory(tmp_path / "videos")

    assert ["videos"] == names(tmp_path)


async def test_directory_with_the_name_of_another_container_is_ignored(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    (tmp_path / WEBM_NAME).mkdir()
    async with on_socket(url) as client:
        await client.download(await ready(client, emulator, Content()), tmp_path)

    assert sorted([REEF, WEBM_NAME]) == names(tmp_path)


@pytest.mark.parametrize("step", ["replace", "unlink"])
def test_file_that_only_its_owner_can_replace_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def deny(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    old = tmp_path / WEBM_NAME
    old.write_bytes(WEBM)
    part = lock_part(tmp_path / REEF)
    assert part is not None
    part.append(SAMPLE)
    part.replaces = old
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, deny)
        with pytest.raises(PermissionError, match="only the owner of a file can") as caught:
            part.finish()
    part.close()

    assert str(old if step == "unlink" else tmp_path / REEF) == caught.value.filename
