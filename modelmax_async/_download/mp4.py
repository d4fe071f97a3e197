"""The top-level boxes of an MP4 file: is it a video, and is it complete?

An MP4 file (ISO/IEC 14496-12, 4.2) is a sequence of boxes, each of which starts with its size
and a type of four characters. That is enough to tell a video from an error page, and a whole
file from a truncated one. This module does no I/O.
"""

from __future__ import annotations

from enum import Enum, auto

from modelmax_async._reprs import always_shown

#: The types that players accept for the first box; today's files all start with ``ftyp``.
_FIRST = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_MEDIA = frozenset({b"mdat", b"moof"})
_SHORT, _LONG = 8, 16
_BLANK = b" \t\r\n\xef\xbb\xbf"  # with the byte order mark
_TO_THE_END, _LONG_SIZE = 0, 1
#: The most boxes of a file. A fragment has two, and reading each takes time.
_MOST = 10_000


class _State(Enum):
    """What the headers read so far have shown."""

    START = auto()  # the first header is not complete
    NOT_MP4 = auto()  # the first box is not one that an MP4 file starts with
    BOXES = auto()  # an MP4 file, of which the next header is expected
    OPEN_ENDED = auto()  # the last box extends to the end of the file
    BROKEN = auto()  # a box has an impossible size, or there are too many boxes


@always_shown
class Boxes:
    """Follows the boxes of a file whose bytes arrive in portions of any size."""

    def __init__(self) -> None:
        self.next_header = 0  # offset of the next box; the bytes before it need not be read
        self._head = bytearray()
        self._seen: set[bytes] = set()
        self._count = 0
        self._opening = b""
        self._state = _State.START

    def __repr__(self) -> str:
        names = ", ".join(sorted(name.decode("latin-1") for name in self._seen))
        return f"<Boxes: {names or 'none'}; next at {self.next_header}>"

    @property
    def is_mp4(self) -> bool:
        """Whether the first header is complete, and that of an MP4 file."""
        return self._state not in {_State.START, _State.NOT_MP4}

    @property
    def is_not_mp4(self) -> bool:
        """Whether the first header is complete, and not that of an MP4 file."""
        return self._state is _State.NOT_MP4

    @property
    def is_blank(self) -> bool:
        """Whether the file is empty so far, or starts with zeros."""
        return not any(self._opening or self._head)

    @property
    def is_text(self) -> bool:
        """Whether the file is empty so far, or starts like an HTML page, XML or JSON.

        No container starts like that, except for an MP4 file with a very large first box.
        """
        opening = bytes(self._opening or self._head).lstrip(_BLANK)
        return not self.is_mp4 and (not opening or opening[:1] in {b"<", b"{"})

    def feed(self, data: bytes, at: int) -> None:
        """Take the bytes at an offset, in order; bytes between two headers may be left out."""
        end = at + len(data)
        if end <= self.next_header:
            return  # almost all of a video is in one box
        following = {_State.START, _State.BOXES}
        while self._state in following and self.next_header + len(self._head) < end:
            have = len(self._head)
            start = self.next_header + have - at
            self._head += data[start : start + self._header_size() - have]
            if len(self._head) == self._header_size():
                self._enter()

    def complete(self, size: int, *, strict: bool = False) -> bool:
        """Return whether a file of this size ends with its last box, and contains media.

        If the boxes alone have to show that the file was not truncated (``strict``), its index
        (``moov``) must be there too.
        """
        open_ended = self._state is _State.OPEN_ENDED
        if not (open_ended or self._state is _State.BOXES) or not self._seen & _MEDIA:
            return False
        if strict and (open_ended or b"moov" not in self._seen):
            return False
        if open_ended or (size == self.next_header and not self._head):
            return True
        # Some programs leave a few bytes behind the last box, which players ignore. Only an
        # index before them shows that they are not the start of a truncated box.
        return (
            not strict and b"moov" in self._seen and size - self.next_header == len(self._head)
        )

    def _header_size(self) -> int:
        """Return the bytes of this header, as far as known: a size of 1 means a longer one."""
        short = len(self._head) < _SHORT or int.from_bytes(self._head[:4], "big") != _LONG_SIZE
        return _SHORT if short else _LONG

    def _enter(self) -> None:
        """Record the box whose header is complete, and move on to the next one."""
        size, name = int.from_bytes(self._head[:4], "big"), bytes(self._head[4:8])
        if size == _LONG_SIZE:
            size = int.from_bytes(self._head[8:16], "big")
        self._opening = self._opening or bytes(self._head)
        self._seen.add(name)
        if self._count == 0:
            self._state = _State.BOXES if name in _FIRST else _State.NOT_MP4
        if self._state is _State.BOXES:
            if size == _TO_THE_END and len(self._head) == _SHORT:
                self._state = _State.OPEN_ENDED
            elif size < len(self._head) or self._count == _MOST:
                self._state = _State.BROKEN
        self._count += 1
        self.next_header += size
        self._head.clear()
