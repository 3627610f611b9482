"""What face detectors can add to a backbone: a blending-mask head, and a branch that sees noise residuals only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Three high-pass filters of the spatial rich model (Fridrich and Kodovsky, IEEE TIFS 7(3), 2012), as Zhou et al., CVPR
# 2018, section 3.2, chose them: first order in both directions, the 5x5 "square", and second order along a row.
SRM_KERNELS = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
SRM_DIVISORS = (4.0, 12.0, 2.0)


class MaskHead(nn.Module):
    """Feature maps (n, c, h, w) to one map of logits (n, h, w): how likely each place was manipulated."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, width, 1)
        self.look = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, h, w) logits."""
        return self.look(F.relu(self.narrow(maps))).squeeze(1).float()


class SrmResiduals(nn.Module):
    """Noise residuals of a picture: uint8 (n, H, W, 3) -> float32 (n, 9, H, W) in [-1, 1].

    Every colour is filtered with the three kernels above on the 0..255 scale; what exceeds ``limit`` grey levels is cut
    off, as in Fridrich and Kodovsky, equation 2 (without their quantisation), so that edges do not drown the noise. A
    constant picture, borders included, gives exactly zero.

    Args:
        limit: grey levels.
    """

    def __init__(self, *, limit: float = 4.0) -> None:
        super().__init__()
        self.limit = limit
        # Whole numbers, divided afterwards: what cancels does so exactly, in the exported graph too.
        kernels = torch.tensor(SRM_KERNELS, dtype=torch.float32).unsqueeze(1).repeat(3, 1, 1, 1)  # colour by kernel
        scale = 1 / torch.tensor(SRM_DIVISORS).repeat(3).view(1, 9, 1, 1)
        self.register_buffer("kernels", kernels, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 (n, H, W, 3) -> residuals (n, 9, H, W), the three kernels of red first."""
        x = F.pad(pixels.permute(0, 3, 1, 2).to(torch.float32), (2, 2, 2, 2), mode="replicate")
        residuals = F.conv2d(x, self.get_buffer("kernels"), groups=3) * self.get_buffer("scale")
        return residuals.clamp(-self.limit, self.limit) / self.limit


class ResidualBranch(nn.Module):
    """A small network over `SrmResiduals`: uint8 (n, H, W, 3) -> features (n, 4 * width).

    Args:
        width: channels of the first layer; each of the three layers halves the map and the second and third double it.
    """

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        self.residuals = SrmResiduals()
        layers: list[nn.Module] = []
        inside = 9
        for outside in (width, 2 * width, 4 * width):
            layers += [
                nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outside),
                nn.ReLU(),
            ]
            inside = outside
        self.body = nn.Sequential(*layers)
        self.features = inside

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 (n, H, W, 3) -> features (n, d)."""
        if torch.is_autocast_enabled(pixels.device.type):
            with torch.autocast(pixels.device.type, enabled=False):  # residuals are small differences of large numbers
                residuals = self.residuals(pixels)
        else:
            residuals = self.residuals(pixels)
        return self.body(residuals).mean(dim=(2, 3))
