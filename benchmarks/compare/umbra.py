# SPDX-License-Identifier: Apache-2.0
# UMBRA's masked autoencoder from unmodified MONAI blocks, with the published tensor names, as its users would train it.
# Koutsouvelis et al. 2025 (arXiv 2511.11311); BraveDistribution/UMBRA: models/networks.py, models/blocks.py.
import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn
from torch.nn import functional as F


def group_norms(module, groups=8):
    """Instance norms become affine group norms, as UMBRA's encoder has them."""
    for name, child in module.named_children():
        if isinstance(child, nn.InstanceNorm3d):
            setattr(module, name, nn.GroupNorm(groups, child.num_features))
        else:
            group_norms(child, groups)


class MaskToken(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x, mask):
        token = self.mask_token.view(1, -1, 1, 1, 1)
        return torch.where(mask, token.to(x.dtype), x)


class Embedding(nn.Module):
    def __init__(self, embed, width):
        super().__init__()
        self.patch_embed = embed
        self.mask_token_injector = MaskToken(width)

    def forward(self, x, mask):
        return self.mask_token_injector(self.patch_embed(x), mask)


class Encoder(SwinTransformer):
    """The pyramid f1 .. f5."""

    def __init__(self, width=48, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), checkpoints=False):
        super().__init__(1, width, (7, 7, 7), (2, 2, 2), depths, heads, use_checkpoint=checkpoints, use_v2=True)
        group_norms(self)
        for stage in range(1, 5):
            for norm in ("norm1", "norm2"):
                layer = getattr(self, f"layers{stage}c")[0].layer
                assert isinstance(getattr(layer, norm), nn.GroupNorm)
        self.patch_embed = Embedding(self.patch_embed, width)

    def forward(self, x, mask):  # pylint: disable=arguments-differ
        x = self.patch_embed(x, mask)
        pyramid = [self.proj_out(x, True)]
        for stage in range(1, 5):
            x = getattr(self, f"layers{stage}c")[0](x.contiguous())
            x = getattr(self, f"layers{stage}")[0](x.contiguous())
            pyramid.append(self.proj_out(x, True))
        return pyramid


class Smooth(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x):
        return F.gelu(self.norm(self.conv(x)))


class Decoder(nn.Module):
    def __init__(self, width, channels):
        super().__init__()
        for i, c in enumerate(channels, 1):
            setattr(self, f"lat{i}", nn.Conv3d(c, width, 1, bias=False))
        for i in (4, 3, 2, 1):
            setattr(self, f"smooth{i}", Smooth(width))

    def forward(self, pyramid):
        p = self.lat5(pyramid[4])
        for i in (4, 3, 2, 1):
            lateral = getattr(self, f"lat{i}")(pyramid[i - 1])
            p = F.interpolate(p, size=lateral.shape[2:], mode="trilinear", align_corners=False)
            p = getattr(self, f"smooth{i}")(lateral + p)
        return p


class Head(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv3d(width, 8, 1)

    def forward(self, x):
        b, _, d, h, w = (y := self.proj(x)).shape
        y = y.view(b, 1, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return y.reshape(b, 1, 2 * d, 2 * h, 2 * w)


class SwinMAE(nn.Module):
    def __init__(self, width=48, decoder=32, checkpoints=False):
        super().__init__()
        self.encoder = Encoder(width, checkpoints=checkpoints)
        self.feats_decoder = Decoder(decoder, [width * 2**i for i in range(5)])
        self.head = Head(decoder)
        for m in self.modules():  # published rule of the mask token; the rest is PyTorch's and MONAI's own
            if isinstance(m, MaskToken):
                nn.init.trunc_normal_(m.mask_token, std=0.02)

    def forward(self, x, cells):
        """cells: (3, 3, 3) booleans; a cell hides 32^3 voxels."""
        mask = cells[None, None].repeat_interleave(16, 2).repeat_interleave(16, 3).repeat_interleave(16, 4)
        return self.head(self.feats_decoder(self.encoder(x, mask)))


def masked_loss(prediction, target, cells):
    voxels = cells[None, None].repeat_interleave(32, 2).repeat_interleave(32, 3).repeat_interleave(32, 4)
    m = voxels.to(prediction.dtype)
    return ((prediction - target).square() * m).sum() / m.sum()
