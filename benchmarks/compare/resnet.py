# SPDX-License-Identifier: Apache-2.0
# 3D-Neuro-SimCLR's network from MONAI's unmodified ResNet-18: stem with stride 1, shortcuts with bias, projector without.
# Kaczmarek et al. 2025; emilykaczmarek/3D-Neuro-SimCLR: model.py, simclr/simclr.py, simclr/modules/resnet.py.
from monai.networks.nets.resnet import ResNet
from torch import nn


class SimCLR(nn.Module):
    """(batch, 1, D, H, W) to projections (batch, 64), by the published tensor names."""

    def __init__(self):
        super().__init__()
        self.encoder = ResNet("basic", [2, 2, 2, 2], [64, 128, 256, 512], n_input_channels=1, conv1_t_size=7, conv1_t_stride=1,
                              feed_forward=False, bias_downsample=True)
        self.projector = nn.Sequential(nn.Linear(512, 512, bias=False), nn.ReLU(), nn.Linear(512, 64, bias=False))

    def forward(self, x):
        return self.projector(self.encoder(x))
