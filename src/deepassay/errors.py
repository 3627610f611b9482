"""Errors that a user can meet: each says what is wrong and ends with what to do (``hint: ...``)."""


class AssayError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: what is wrong, naming the file or value.
        hint: what the user can do about it.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}"

    def __reduce__(self):
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type["AssayError"], message: str, hint: str) -> "AssayError":
    return kind(message, hint=hint)


class ConfigError(AssayError):
    """A configuration value, key or target that cannot be used."""


class ManifestError(AssayError):
    """A manifest or corpus that is missing files, labels or ids, or contradicts itself."""


class ScoreError(AssayError):
    """A score table from which no honest number can be computed."""


class MediaError(AssayError):
    """An encoder, decoder or file that is not usable as asked."""


class BundleError(AssayError):
    """A bundle that is incomplete, altered or of an unknown schema."""


class LeakError(AssayError):
    """Data that would let test information reach training, selection, calibration or thresholds."""


class MissingDependencyError(AssayError):
    """An optional package, weight file or device that the requested work needs and that is not there."""
