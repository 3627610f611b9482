"""Limits on what a media file may ask of the machine: pixels, frames, seconds, bytes."""

from dataclasses import dataclass

from deepassay.labels import Status, Unusable


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that decoding keeps; a file beyond one is `Status.OUT_OF_SCOPE`, not truncated in silence.

    Args:
        max_pixels: width x height of an image or of one video frame.
        max_frames: coded frames of a video.
        max_seconds: length of a video or of a sound.
        max_bytes: size of the file.
    """

    max_pixels: int = 64_000_000
    max_frames: int = 500_000
    max_seconds: float = 3 * 3600.0
    max_bytes: int = 4 * 2**30

    def check_pixels(self, width: int, height: int) -> None:
        """Raise labels.Unusable for a picture without pixels or with more than allowed."""
        if width < 1 or height < 1:
            raise Unusable(Status.UNDECODABLE, f"the picture has no pixels ({width} x {height})")
        if width * height > self.max_pixels:
            raise Unusable(
                Status.OUT_OF_SCOPE, f"{width} x {height} pixels is over the limit of {self.max_pixels} pixels"
            )

    def check_frames(self, frames: int) -> None:
        """Raise labels.Unusable for more frames than allowed."""
        if frames > self.max_frames:
            raise Unusable(Status.OUT_OF_SCOPE, f"the video has more than the limit of {self.max_frames} frames")

    def check_seconds(self, seconds: float) -> None:
        """Raise labels.Unusable for more seconds than allowed."""
        if seconds > self.max_seconds:
            raise Unusable(Status.OUT_OF_SCOPE, f"longer than the limit of {self.max_seconds:g} seconds")

    def check_bytes(self, size: int) -> None:
        """Raise labels.Unusable for an empty file or one larger than allowed."""
        if size == 0:
            raise Unusable(Status.UNDECODABLE, "the file is empty")
        if size > self.max_bytes:
            raise Unusable(Status.OUT_OF_SCOPE, f"{size} bytes is over the limit of {self.max_bytes} bytes")


DEFAULT_LIMITS = Limits()
