"""Trains the text encoder. Usage: train_text.py WORKDIR [--steps N]. Writes tokenizer.json, points.pt and text.pt there.

This training needs no images: captions.py has the emoji that each text fits. The first step learns one point per emoji, with
a mere sum of word vectors instead of the encoder, so that similar meanings are close together. Then the points stay fixed,
and both encoders learn to reach them: the text encoder here, and the image encoder in train_image.py, which can run at the
same time as soon as points.pt exists. Each uses one thread: at this size, two threads mostly wait for each other.
"""

import argparse
import copy
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from captions import Captions
from teacher import wordnet
from tokenizer import END, learn
from towers import DIMENSIONS, TextTower

SEED = 20261123
TEXTS = 512
# The shorter three quarters of a batch go through the encoder separately, with less padding.
SHORTER = TEXTS * 3 // 4
POINT_STEPS, POINT_RATE, WORD_RATE = 1000, 1e-3, 5e-3
PEAK_RATE, WARM_UP = 2e-3, 200
EMA = 0.998
# e^3.7 = 40: the sharpness with which both encoders must reach the points.
LOG_SCALE = 3.7


def cosine(step: int, steps: int, peak: float) -> float:
    """Returns the learning rate: a warm-up, then a decrease to a hundredth."""
    return peak * min(step / WARM_UP, 1.0) * (0.505 + 0.495 * np.cos(np.pi * step / steps))


def distance(texts: torch.Tensor, points: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    scores = np.exp(LOG_SCALE) * functional.normalize(texts, dim=-1) @ functional.normalize(points, dim=-1).T
    return functional.kl_div(functional.log_softmax(scores, -1), targets, reduction="batchmean")


def spread_points(captions: Captions) -> torch.Tensor:
    """Returns the first points: the emoji's votes of WordNet's words, reduced to the main directions. Related emoji are close."""
    teacher, frequency = captions.teacher, wordnet().frequency
    own = [word for word in captions.words if word in teacher.own]
    others = [word for word in captions.words if frequency[word] and word not in teacher.own]
    votes = np.expm1(np.stack([teacher.word(word) for word in own + others]).clip(max=4))
    votes *= (np.repeat([3.0, 1.0], [len(own), len(others)]) ** 0.5 / np.linalg.norm(votes, axis=1))[:, None]
    # All emoji count equally, also those with few words.
    votes /= np.linalg.norm(votes, axis=0).clip(min=0.1)
    strengths, directions = torch.linalg.eigh(torch.from_numpy(votes.T @ votes).float())
    return functional.normalize(directions[:, -DIMENSIONS:] * strengths[-DIMENSIONS:] ** 0.25, dim=-1)


def learn_points(captions: Captions, tokenizer) -> torch.Tensor:
    """Learns points: far enough apart for each name, and near enough for words that fit several emoji."""
    words = nn.EmbeddingBag(tokenizer.get_vocab_size(), DIMENSIONS, mode="sum")
    nn.init.normal_(words.weight, std=0.02)
    points = nn.Parameter(spread_points(captions) + torch.randn(len(captions.known), DIMENSIONS) * 0.02)
    optimizer = torch.optim.Adam([{"params": [points]}, {"params": words.parameters()}], betas=(0.9, 0.98))
    for step in range(1, POINT_STEPS + 1):
        for group, peak in zip(optimizer.param_groups, (POINT_RATE, WORD_RATE)):
            group["lr"] = cosine(step, POINT_STEPS, peak)
        ids, mask, targets = captions.batch(tokenizer, TEXTS)
        loss = distance(words(ids, per_sample_weights=mask.float()), points, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"points {step} loss {loss:.3f}", flush=True)
    return functional.normalize(points.detach(), dim=-1)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("workdir", type=Path)
    arguments.add_argument("--steps", type=int, default=7500)
    arguments = arguments.parse_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    random.seed(SEED), torch.manual_seed(SEED)

    captions = Captions()
    tokenizer = learn(captions.corpus())
    tokenizer.save(str(arguments.workdir / "tokenizer.json"))
    points = learn_points(captions, tokenizer)
    torch.save(points, arguments.workdir / "points.new")
    (arguments.workdir / "points.new").rename(arguments.workdir / "points.pt")

    tower = TextTower(tokenizer.get_vocab_size(), tokenizer.token_to_id(END))
    averaged = copy.deepcopy(tower)
    print(tokenizer.get_vocab_size(), "tokens,", sum(p.numel() for p in tower.parameters()), "parameters", flush=True)
    optimizer = torch.optim.AdamW(tower.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
    started = time.time()
    for step in range(1, arguments.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = cosine(step, arguments.steps, PEAK_RATE)
        ids, mask, targets = captions.batch(tokenizer, TEXTS)
        length = int(mask[:SHORTER].sum(1).max())
        with torch.autocast("cpu", torch.bfloat16):
            shorter = tower(ids[:SHORTER, :length], mask[:SHORTER, :length])
            texts = torch.cat([shorter, tower(ids[SHORTER:], mask[SHORTER:])])
        loss = distance(texts.float(), points, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), tower.parameters()):
                slow.lerp_(fast, 1 - min(EMA, (1 + step) / (10 + step)))
        if step % 50 == 0:
            print(f"text {step} {time.time() - started:.0f}s loss {loss:.3f}", flush=True)
        if step % 500 == 0 or step == arguments.steps:
            torch.save(averaged.state_dict(), arguments.workdir / "text.new")
            (arguments.workdir / "text.new").rename(arguments.workdir / "text.pt")


if __name__ == "__main__":
    main()
