"""Names of video files: made from a template and what is known of the job, never by the server.

A complete file is taken for the video that is to be saved, so two jobs must not share a name.
The default, ``<key>-<8 hex digits of the id's SHA-256>-<index>.<suffix>``, tells them apart by
the digest; the request id takes the place of a missing key. In a template without ``{digest}``,
a key or id stands as it is only if no other can look like it: a plain lower-case slug that the
template separates from its neighbours. Any other is followed by 64 bits of its SHA-256. This
holds on file systems that take ``A`` and ``a`` for the same, for the names of one template.

No name leaves the directory, is reserved on any system, or exceeds 255 bytes, resume info of a
``.part`` included.
"""

from __future__ import annotations

from typing import Self

import attrs

from modelmax_async._download import template
from modelmax_async._download.containers import MP4
from modelmax_async._download.slugs import (
    MARK,
    digest_of,
    id_slug,
    is_plain,
    is_reserved,
    key_label,
    key_slug,
    model_slug,
)
from modelmax_async._validators import is_integer

_LARGEST_INDEX = 10**template.INDEX_DIGITS - 1


@attrs.frozen
class NameTemplate:
    """A checked template of file names."""

    parts: template.Parts
    width: int  # the most characters of a slug
    has_digest: bool
    is_ambiguous: bool  # if a plain slug could be mistaken for another

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the template with this text, as that of ``AsyncQueueClient.download``.

        Raises:
            ValueError: says what is wrong with the text.
        """
        parts = template.parse(text)
        return cls(
            parts,
            width=template.slug_width(parts),
            has_digest="digest" in template.field_names(parts),
            is_ambiguous=template.is_ambiguous(parts),
        )

    def file_name(self, *, request_id: str, key: str | None, model: str, index: int) -> str:
        """Return the name of a video's file, with the suffix ``.mp4`` in place of any other.

        Raises:
            ValueError: for an index that no result has.
        """
        if not is_integer(index, 0, _LARGEST_INDEX):
            allowed = f"an integer from 0 to {_LARGEST_INDEX}"
            raise ValueError(f"the index of a video must be {allowed}, got {index!r}")
        values = {
            "key": self._key(key, request_id),
            "id": self._id(request_id),
            "digest": digest_of(request_id)[: template.DIGEST],
            "model": model_slug(model, self.width),
        }
        stem = ""
        for part in self.parts:
            if isinstance(part, str):
                stem += part
            else:
                stem += values.get(part.name) or format(index, part.spec)
        if index and "index" not in template.field_names(self.parts):
            stem += f".{index}"  # not -1, with which another key may end; no slug has a dot
        return f"{'_' * is_reserved(stem)}{stem}.{MP4}"

    def _key(self, key: str | None, request_id: str) -> str:
        """Return the key, or the id in its place; an id never looks like a key."""
        if key is None:
            slug = id_slug(request_id, self.width)
            return slug if self.has_digest else f"{slug}-{digest_of(request_id)[-MARK:]}"
        if self.has_digest:
            return key_label(key, self.width)
        return self._unique(key, key_slug(key, self.width))

    def _id(self, request_id: str) -> str:
        slug = id_slug(request_id, self.width)
        return slug if self.has_digest else self._unique(request_id, slug)

    def _unique(self, text: str, slug: str) -> str:
        """Return a slug that no other text has, in any case."""
        if is_plain(text, self.width) and not self.is_ambiguous:
            return slug
        return f"{slug}-{digest_of(text)[:MARK]}"


#: The template of a client that is given no ``name``.
DEFAULT_TEMPLATE = NameTemplate.parse("{key}-{digest}-{index}.{suffix}")


def read_template(name: str | None) -> NameTemplate:
    """Return the template of a caller's ``name``, or the default one.

    Raises:
        ValueError: says what is wrong with it.
    """
    return DEFAULT_TEMPLATE if name is None else NameTemplate.parse(name)
