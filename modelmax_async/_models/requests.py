"""What is submitted: a prompt and its parameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
from attrs.validators import optional

from modelmax_async import _validators as valid
from modelmax_async._models.images import as_image
from modelmax_async._models.value import Value

if TYPE_CHECKING:
    _Image = str | Path | None
else:
    _Image = object  # cattrs leaves it as it is; of the union, it would write a path as text


@attrs.frozen(kw_only=True)
class VideoParameters(Value):
    """The parameters of a submit (API §1); a parameter that is ``None`` is not sent.

    Args:
        aspect_ratio: ``"16:9"`` or ``"9:16"``.
        resolution: ``"720p"``, ``"1080p"`` or ``"4k"``.
        duration_seconds: the length of the video, from 1 to 8 seconds.
        generate_audio: whether the video has sound.
        sample_count: the number of videos, from 1 to 4.
        negative_prompt: a description of what to avoid.
        image: the first frame, for image-to-video: a PNG, JPEG or WebP of at most 20 MiB, as
            base64 text, ``bytes``, or a path such as ``pathlib.Path("first.png")``. Bytes are
            kept as base64 text. A path is kept as a ``Path`` and read by the submit, in a
            thread. A ``str`` is never taken for a path.
        extra: undocumented parameters, sent unchanged; they override those above.

    Raises:
        ValueError: for a value outside its documented range, and for an image that is none of
            these. An image given as a path is checked by the submit, before any request.
    """

    aspect_ratio: Literal["16:9", "9:16"] | None = attrs.field(
        default=None, validator=optional(valid.one_of("16:9", "9:16"))
    )
    resolution: Literal["720p", "1080p", "4k"] | None = attrs.field(
        default=None, validator=optional(valid.one_of("720p", "1080p", "4k"))
    )
    duration_seconds: int | None = attrs.field(
        default=None, validator=optional(valid.between(1, 8))
    )
    generate_audio: bool | None = attrs.field(default=None, validator=optional(valid.flag))
    sample_count: int | None = attrs.field(
        default=None, validator=optional(valid.between(1, 4))
    )
    negative_prompt: str | None = attrs.field(default=None, validator=optional(valid.text))
    image: _Image = attrs.field(default=None, converter=as_image, repr=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict, validator=valid.mapping, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters that are set, and those of ``extra``, as they are sent.

        An image is base64 text. One that is given as a path, and so is not read yet, is the
        text of that path, which `from_dict` refuses: no text is ever taken for a path. The dict
        of a `VideoRequest` keeps the two apart, and ``extra`` from the rest.
        """
        known = attrs.asdict(self, filter=lambda field, _: field.name != "extra")
        if isinstance(self.image, Path):
            known["image"] = str(self.image)
        return {k: v for k, v in known.items() if v is not None} | dict(self.extra)


def _parameters(_instance: Any, _field: Any, value: Any) -> None:
    if not isinstance(value, VideoParameters | None):
        raise ValueError(  # noqa: TRY004 - the documented error for bad input
            f"parameters must be VideoParameters, got {type(value).__name__}: pass "
            "VideoParameters(resolution=…), and undocumented keys as VideoParameters(extra=…)"
        )


@attrs.frozen
class VideoRequest(Value):
    """One request of `AsyncQueueClient.generate_many`: what `submit` takes.

    `from_dict` also reads an image that is the path of a file, which the submit sends: do not
    give it a dict from a stranger. FastAPI and pydantic refuse a path.

    Args:
        prompt: what to show.
        model: such as ``"veo-3"``; that of the call, or of the client, by default.
        parameters: further wishes, such as resolution and length.
        key: makes the submit idempotent, and the batch safe to run again.

    Raises:
        ValueError: for a prompt that is not a string, a model that cannot be one path segment,
            and for a key that `submit` would refuse.
    """

    prompt: str = attrs.field(validator=valid.text)
    model: str | None = attrs.field(default=None, validator=optional(valid.segment("model")))
    parameters: VideoParameters | None = attrs.field(default=None, validator=_parameters)
    key: str | None = attrs.field(default=None, validator=valid.submit_key)
