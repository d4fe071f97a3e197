"""The responses of the hostile server: what they are made of."""

from __future__ import annotations

import functools
import gzip
import itertools
from base64 import b64encode
from collections.abc import Iterable

MIB = 1024 * 1024
#: A little less than what a client accepts of a paid body.
SIZE = 8 * MIB - 1024
#: A response in blocks; a number is a pause in seconds.
Answer = Iterable[bytes | float]

MP4 = b"\x00\x00\x00\x14ftypisom\x00\x00\x00\x00isom" + b"\x00\x00\x00\x10mdat12345678"

SMALL_VIDEO = "data:video/mp4;base64," + b64encode(MP4 + bytes(8) * 375).decode()


def head(status: str, *headers: str) -> bytes:
    """Return the beginning of a response."""
    return "\r\n".join((f"HTTP/1.1 {status}", *headers)).encode() + b"\r\n\r\n"


def answer(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    """Return a response of a known length."""
    return [head(status, f"content-length: {len(body)}", *headers), body]


def report(request_id: str, status: str, more: str = "") -> bytes:
    """Return a status body, with more members."""
    return f'{{"request_id":"{request_id}","status":"{status}"{more}}}'.encode()


def result(request_id: str, more: str = "", data: str | None = None) -> bytes:
    """Return a paid body, with more members."""
    url = f"/v1/queue/veo-3/requests/{request_id}/content/0"
    videos = data if data is not None else f'[{{"url":"{url}"}}]'
    return report(request_id, "COMPLETED", f',"model":"veo-3","data":{videos}{more}')


def repeated(unit: str, opened: str = ',"x":[', closed: str = "0]", size: int = SIZE) -> str:
    """Return a member of about this size that repeats a piece of JSON."""
    return opened + unit * (size // len(unit)) + closed


@functools.cache
def keys() -> str:
    """Return a member with 740,000 keys."""
    return ',"x":{' + ",".join(f'"{n:06}":0' for n in range(740_000)) + "}"


@functools.cache
def zipped(size: int) -> bytes:
    """Return blanks of this size, compressed to a thousandth of it."""
    return gzip.compress(b" " * size, 1)


def gzipped(body: bytes) -> Answer:
    """Return a response that is compressed, although no encoding was asked for."""
    return answer(gzip.compress(body, 6), "content-encoding: gzip")


def in_chunks(body: bytes, *headers: str) -> Answer:
    """Return a response whose every chunk is one byte."""
    yield head("200 OK", "transfer-encoding: chunked", *headers)
    for at in range(0, len(body), MIB):
        yield b"".join(b"1\r\n%c\r\n" % byte for byte in body[at : at + MIB])
    yield b"0\r\n\r\n"


def continues() -> Answer:
    """Return ``100 Continue`` without an end."""
    return itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 4096)


def many_headers(body: bytes) -> Answer:
    """Return a response with 24,000 headers."""
    return answer(body, *["a:"] * 24_000)


def endless(*headers: str) -> Answer:
    """Return a video that ends after half a gigabyte only, and then without its last bytes."""
    yield head("200 OK", "content-type: video/mp4", *headers) + MP4[:-16]
    yield b"\x00\x00\x00\x01mdat" + (2**40).to_bytes(8, "big")
    yield from itertools.repeat(bytes(MIB), 512)
    yield 60.0


def drip() -> Answer:
    """Return a video that announces a megabyte, and sends twenty bytes a second of it."""
    yield head("200 OK", "content-type: video/mp4", f"content-length: {MIB}") + MP4[:-16]
    yield (MIB - len(MP4) + 16).to_bytes(4, "big") + b"mdat"
    for _ in range(2400):
        yield 0.05
        yield b"\x00"


def boxes() -> Answer:
    """Return a video of four million empty boxes."""
    box = b"\x00\x00\x00\x08free"
    size = 32 * MIB + len(MP4)
    yield head("200 OK", "content-type: video/mp4", f"content-length: {size}") + MP4
    yield from itertools.repeat(box * (MIB // len(box)), 32)


def breaks_off(request_id: str) -> Answer:
    """Return 10 MiB of a paid body that announces 12 MiB, and hang up."""
    yield head("200 OK", "content-type: application/json", f"content-length: {12 * MIB}")
    yield result(request_id, ',"x":"')
    yield from itertools.repeat(b"a" * MIB, 10)


def data_video(request_id: str) -> Answer:
    """Return a paid body with the video inside: a whole MP4 of nearly 6 MiB."""
    size = SIZE // 4 * 3 - 3 * 300
    video = MP4[:20] + (size - 20).to_bytes(4, "big") + b"mdat" + bytes(size - 28)
    url = "data:video/mp4;base64," + b64encode(video).decode()
    return answer(result(request_id, data=f'[{{"url":"{url}"}}]'))


def lists(request_id: str, status: str) -> bytes:
    """Return a body that is nearly 8 MiB of empty lists."""
    more = repeated("[],")
    return (
        result(request_id, more) if status == "COMPLETED" else report(request_id, status, more)
    )
