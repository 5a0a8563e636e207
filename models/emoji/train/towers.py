"""The two encoders: a causal transformer for text, and convolutions under a transformer for images.

They are small enough for 12 MB of fp32 weights. They have no batch norm: an image alone must equal the same image in a batch.
"""

import torch
from torch import nn
from torch.nn import functional

DIMENSIONS = 128
CONTEXT_LENGTH = 32
IMAGE_SIZE = 64
MEAN = STD = (0.5, 0.5, 0.5)

TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 128, 3, 4
IMAGE_WIDTH, IMAGE_LAYERS, IMAGE_HEADS = 128, 3, 4
# Stride-2 convolutions, 64x64 to 4x4: plain patches learn slowly with this little data.
STEM = (32, 64, 128)


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, mask=None):
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        if mask is not None:
            scores = scores + mask
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(mixed)
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class TextTower(nn.Module):
    def __init__(self, vocabulary: int, end_id: int):
        super().__init__()
        self.end_id = end_id
        self.tokens = nn.Embedding(vocabulary, TEXT_WIDTH)
        self.positions = nn.Parameter(torch.randn(CONTEXT_LENGTH, TEXT_WIDTH) * 0.01)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(TEXT_WIDTH, TEXT_HEADS) for _ in range(TEXT_LAYERS))
        self.norm = nn.LayerNorm(TEXT_WIDTH)
        self.projection = nn.Linear(TEXT_WIDTH, DIMENSIONS, bias=False)
        self.register_buffer("causal", torch.full((CONTEXT_LENGTH, CONTEXT_LENGTH), -1e9).triu(1), persistent=False)

    def forward(self, input_ids, attention_mask):
        length = input_ids.shape[1]
        x = self.tokens(input_ids) * attention_mask.unsqueeze(-1).to(self.positions.dtype) + self.positions[:length]
        for block in self.blocks:
            x = block(x, self.causal[:length, :length])
        # The first end token. Padding comes after it, so this token does not attend to the padding.
        end = (input_ids == self.end_id).to(torch.int32).argmax(-1)
        pooled = x.gather(1, end.view(-1, 1, 1).expand(-1, 1, x.shape[-1])).flatten(1)
        return self.projection(self.norm(pooled))


class ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x):
        return functional.gelu(self.norm(self.conv(x)))


class ImageTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*(ConvBlock(a, b, 2) for a, b in zip((3, *STEM), STEM)))
        self.residual = nn.Sequential(ConvBlock(STEM[-1], STEM[-1], 1), ConvBlock(STEM[-1], STEM[-1], 1))
        self.patches = nn.Conv2d(STEM[-1], IMAGE_WIDTH, 3, 2, 1)
        self.positions = nn.Parameter(torch.randn((IMAGE_SIZE // 16) ** 2, IMAGE_WIDTH) * 0.01)
        self.blocks = nn.ModuleList(Block(IMAGE_WIDTH, IMAGE_HEADS) for _ in range(IMAGE_LAYERS))
        self.norm = nn.LayerNorm(IMAGE_WIDTH)
        self.projection = nn.Linear(IMAGE_WIDTH, DIMENSIONS, bias=False)

    def forward(self, pixel_values):
        x = self.stem(pixel_values)
        x = self.patches(x + self.residual(x)).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.projection(self.norm(x).mean(1))
