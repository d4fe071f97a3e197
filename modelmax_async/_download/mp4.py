"""The top-level boxes of an MP4 file: is this a video at all, and is all of it there?

An MP4 file (ISO/IEC 14496-12, 4.2) is a row of boxes, each with its size and a type of four
characters in front. That is enough to tell a video from an error page, and a whole file
from the beginning of one. Nothing here does I/O.
"""

from __future__ import annotations

#: What a file that players take for a video begins with; ``ftyp`` in all of today's.
_FIRST = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_MEDIA = frozenset({b"mdat", b"moof"})
_SHORT, _LONG = 8, 16
_BLANK = b" \t\r\n\xef\xbb\xbf"  # with the byte order mark
_TO_THE_END, _LONG_SIZE = 0, 1
#: Boxes that a file has at most: a fragment takes two, and each of them takes time to read.
_MOST = 10_000


class Boxes:
    """Follows the boxes of a file whose bytes come in any portions.

    Attributes:
        wants: the offset in bytes at which the next box has its header; what lies before
            it need not be read.
    """

    def __init__(self) -> None:
        self.wants = 0
        self._head = bytearray()
        self._seen: set[bytes] = set()
        self._count = 0
        self._first: bytes | None = None
        self._opening = b""
        self._open_ended = False
        self._broken = False

    def __repr__(self) -> str:
        names = ", ".join(sorted(name.decode("latin-1") for name in self._seen))
        return f"<Boxes: {names or 'none'}; next at {self.wants}>"

    @property
    def begun(self) -> bool:
        """Whether the first bytes have shown that this is a video."""
        return self._first in _FIRST

    @property
    def alien(self) -> bool:
        """Whether the first bytes have shown that this is no video."""
        return self._first is not None and self._first not in _FIRST

    @property
    def blank(self) -> bool:
        """Whether there are no bytes yet, or zeros for a beginning."""
        return not any(self._opening or self._head)

    @property
    def text(self) -> bool:
        """Whether there are no bytes, or those of an HTML page, XML or JSON.

        No container begins like that, except for an MP4 file with a very large first box.
        """
        opening = bytes(self._opening or self._head).lstrip(_BLANK)
        return not self.begun and (not opening or opening[:1] in {b"<", b"{"})

    def feed(self, data: bytes, at: int) -> None:
        """Look at bytes of the file; portions come in order, and may leave out all but headers.

        Args:
            data: the bytes.
            at: the offset of the first of them.
        """
        end = at + len(data)
        if end <= self.wants:
            return  # as for almost all of a video, which is in one box
        while not self._closed and self.wants + len(self._head) < end:
            have = len(self._head)
            start = self.wants + have - at
            self._head += data[start : start + self._header_size() - have]
            if len(self._head) == self._header_size():
                self._enter()

    def complete(self, size: int, *, strict: bool = False) -> bool:
        """Whether a file of ``size`` bytes ends where its last box does, and holds media.

        Args:
            size: bytes.
            strict: nothing else speaks for the end of the file, so that its index
                (``moov``) must be there too: it may be what the cut took away.
        """
        if self._broken or self.alien or not self._seen & _MEDIA:
            return False
        if strict and (self._open_ended or b"moov" not in self._seen):
            return False
        if self._open_ended or (size == self.wants and not self._head):
            return True
        # A few bytes behind the last box, as some programs leave them, hurt no player. But
        # only an index that was there before them shows that they are not one cut off.
        return not strict and b"moov" in self._seen and size - self.wants == len(self._head)

    @property
    def _closed(self) -> bool:
        return self._broken or self._open_ended or self.alien

    def _header_size(self) -> int:
        """Bytes of this header, as far as it is known: a size of 1 announces a longer one."""
        short = len(self._head) < _SHORT or int.from_bytes(self._head[:4], "big") != _LONG_SIZE
        return _SHORT if short else _LONG

    def _enter(self) -> None:
        """Take note of a box whose header is there, and go on to the next one."""
        size, name = int.from_bytes(self._head[:4], "big"), bytes(self._head[4:8])
        if size == _LONG_SIZE:
            size = int.from_bytes(self._head[8:16], "big")
        self._first = self._first or name
        self._opening = self._opening or bytes(self._head)
        self._seen.add(name)
        if size == _TO_THE_END and len(self._head) == _SHORT:
            self._open_ended = True
        elif size < len(self._head) or self._count == _MOST:
            self._broken = True
        self._count += 1
        self.wants += size
        self._head.clear()
