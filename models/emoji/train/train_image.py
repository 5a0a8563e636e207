"""Trains the image encoder. Usage: train_image.py WORKDIR [--steps N]. Reads points.pt there, and writes image.pt.

Each image learns to reach its emoji's point (train_text.py) and to avoid the others. Images are cached once, and drawn again
for each batch with tensor operations: moved, rotated, scaled, on all kinds of backgrounds. They are not mirrored, because some
emoji differ only by their direction.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from render import emoji
from towers import IMAGE_SIZE, ImageTower
from train_text import EMA, LOG_SCALE, SEED, cosine

PICTURES = 192
PEAK_RATE = 1.5e-3
# Side of the cached images: larger than the model's, so that it can zoom in.
CACHED_SIDE = 96
# The weight of the distance to the own point, relative to being nearer to it than to others.
PULL = 5.0


class Pictures:
    def __init__(self):
        stack = []
        for e in emoji():
            side = max(e.picture.size)
            canvas = np.zeros((side, side, 4), np.uint8)
            top, left = (side - e.picture.height) // 2, (side - e.picture.width) // 2
            canvas[top:top + e.picture.height, left:left + e.picture.width] = np.asarray(e.picture)
            small = Image.fromarray(canvas).resize((CACHED_SIDE, CACHED_SIDE), Image.Resampling.LANCZOS)
            stack.append(np.asarray(small))
        self.rgba = torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2).contiguous()

    def batch(self, index: torch.Tensor) -> torch.Tensor:
        n = len(index)
        some = lambda chance: (torch.rand(n, 1, 1, 1) < chance).float()
        rgba = self.rgba[index].float() / 255
        color, alpha = rgba[:, :3], rgba[:, 3:]
        angle = (torch.randn(n) * 0.13).clamp(-0.35, 0.35)
        zoom = 1 / torch.empty(n).uniform_(0.6, 1.06)
        stretch = torch.exp(torch.randn(n) * 0.04)
        # A smaller emoji has more room to move.
        shift = (torch.rand(n, 2) - 0.5) * (0.1 + 0.6 * (zoom - 0.9).clamp(min=0)).unsqueeze(1)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = torch.stack([torch.stack([cos * stretch, -sin, shift[:, 0]], 1),
                            torch.stack([sin, cos / stretch, shift[:, 1]], 1)], 1)
        grid = functional.affine_grid(rows, [n, 4, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
        drawn = functional.grid_sample(torch.cat([color * alpha, alpha], 1), grid, align_corners=False)
        color, alpha = drawn[:, :3], drawn[:, 3:]
        picture = color + (1 - alpha) * self.background(n)
        # A reader without transparency shows the stored colors on black, without soft edges.
        bare = some(0.08)
        picture = bare * color / alpha.clamp(min=1e-3) * (alpha > 0.02) + (1 - bare) * picture
        contrast, light = 1 + torch.randn(n, 1, 1, 1) * 0.12, torch.randn(n, 3, 1, 1) * 0.04
        picture = (picture - 0.5) * contrast + 0.5 + light
        # Soft or coarse, like enlarged small images and compressed photographs.
        soft = functional.avg_pool2d(functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
        coarse = functional.interpolate(functional.avg_pool2d(picture, 2), IMAGE_SIZE, mode="bilinear")
        soft = torch.where(some(0.3) > 0, coarse, soft)
        picture = picture + (soft - picture) * torch.rand(n, 1, 1, 1) * some(0.4)
        picture = picture + torch.randn_like(picture) * 0.03 * some(0.3)
        return picture.clamp(0, 1) * 2 - 1

    def background(self, n: int) -> torch.Tensor:
        """Returns mostly white, otherwise black, one color or a gradient."""
        flat, kind = torch.rand(n, 3, 1, 1), torch.rand(n, 1, 1, 1)
        flat = torch.where(kind < 0.45, torch.ones_like(flat), torch.where(kind < 0.55, torch.zeros_like(flat), flat))
        ramp = torch.linspace(0, 1, IMAGE_SIZE)
        ramp = torch.where(torch.rand(n, 1, 1, 1) < 0.5, ramp.view(1, 1, 1, -1), ramp.view(1, 1, -1, 1))
        gradient = flat + (torch.rand(n, 3, 1, 1) - flat) * ramp
        return torch.where(kind > 0.82, gradient, flat.expand(-1, -1, IMAGE_SIZE, IMAGE_SIZE))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("workdir", type=Path)
    arguments.add_argument("--steps", type=int, default=4500)
    arguments.add_argument("--go-on", action="store_true", help="continue from the existing image.pt")
    arguments = arguments.parse_args()
    torch.manual_seed(SEED)

    points, pictures, tower = torch.load(arguments.workdir / "points.pt"), Pictures(), ImageTower()
    if arguments.go_on:
        tower.load_state_dict(torch.load(arguments.workdir / "image.pt"))
    averaged = copy.deepcopy(tower)
    print(len(points), "emoji,", sum(p.numel() for p in tower.parameters()), "parameters", flush=True)
    optimizer = torch.optim.AdamW(tower.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    started = time.time()
    for step in range(1, arguments.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, arguments.steps, PEAK_RATE)
        index = torch.randint(len(points), (PICTURES,))
        pixels = pictures.batch(index)
        with torch.autocast("cpu", torch.bfloat16):
            images = tower(pixels)
        images = functional.normalize(images.float(), dim=-1)
        told_apart = functional.cross_entropy(np.exp(LOG_SCALE) * images @ points.T, index)
        reached = (1 - (images * points[index]).sum(-1)).mean()
        loss = told_apart + PULL * reached
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), tower.parameters()):
                slow.lerp_(fast, 1 - min(EMA, (1 + step) / (10 + step)))
        if step % 50 == 0:
            print(f"image {step} {time.time() - started:.0f}s told apart {told_apart:.3f} reached {reached:.3f}", flush=True)
        if step % 500 == 0 or step == arguments.steps:
            torch.save(averaged.state_dict(), arguments.workdir / "image.new")
            (arguments.workdir / "image.new").rename(arguments.workdir / "image.pt")


if __name__ == "__main__":
    main()
