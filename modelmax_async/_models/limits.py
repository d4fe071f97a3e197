"""The bounds on what a server can make a client do."""

import attrs

from modelmax_async import _validators as valid
from modelmax_async._models.value import Value

_KIB = 1024
_MOST = 2**53  # bytes; JSON can hold no larger integer exactly


@attrs.frozen(kw_only=True)
class ResourceLimits(Value):
    """The most memory, disk space and time that a server can make a client use.

    The defaults are far above what the API needs.

    Args:
        response_bytes: the largest response to a submit or a status call, and the largest
            error response, in bytes, also after decompression.
        result_bytes: the largest paid response that is kept in memory, in bytes, also after
            decompression.
        kept_bytes: the most bytes of a larger paid response that are written to a file.
        least_rate: the lowest rate of a download in bytes a second. A slower transfer is broken
            off, and resumed like any interrupted one.
        least_rate_seconds: the seconds over which that rate is measured.
        lookups: the most host names that are looked up at once, each in a thread; 1 to 64. The
            few of the configuration are counted apart.
        lookup_seconds: the seconds after which the look-up of a host name has failed.

    Raises:
        ValueError: for a value outside its range.
    """

    response_bytes: int = attrs.field(default=64 * _KIB, validator=valid.between(_KIB, _MOST))
    result_bytes: int = attrs.field(default=8 * _KIB**2, validator=valid.between(_KIB, _MOST))
    kept_bytes: int = attrs.field(default=4 * _KIB**3, validator=valid.between(_KIB, _MOST))
    least_rate: float = attrs.field(default=1024.0, validator=valid.positive)
    least_rate_seconds: float = attrs.field(default=60.0, validator=valid.positive)
    lookups: int = attrs.field(default=8, validator=valid.between(1, 64))
    lookup_seconds: float = attrs.field(default=10.0, validator=valid.positive)
