"""Second stage: teach the text tower more of the language, while the image tower stays as it is.

Usage: refine.py WORKDIR [--steps N]. Reads and replaces WORKDIR/towers.pt. Beside the phrases of the emoji, now with
small words put in between, the tower learns that a word and its definition in WordNet mean the same: so that a query
whose words are in no phrase still lands near what they mean.
"""

import argparse
import copy
import random
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from captions import definitions
from render import emoji
from towers import ImageTower, TextTower
from train import EMA, SEED, Captions, Pictures, queries, tokenize

PHRASES, DEFINITIONS = 256, 160
PEAK_RATE, WARM_UP = 1e-3, 200
# Draws of each picture that are averaged into the point where its phrases should lie.
DRAWS = 6
SCALE = 40.0


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("workdir", type=Path)
    arguments.add_argument("--steps", type=int, default=5000)
    arguments = arguments.parse_args()
    random.seed(SEED), torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(arguments.workdir / "tokenizer.json"))
    state = torch.load(arguments.workdir / "towers.pt")
    end = tokenizer.token_to_id("<|endoftext|>")
    towers = nn.ModuleDict({"text": TextTower(tokenizer.get_vocab_size(), end), "image": ImageTower()})
    towers.load_state_dict(state["towers"])

    pictures, count = Pictures(), len(emoji())
    with torch.no_grad():
        draws = [torch.cat([functional.normalize(towers["image"](pictures.batch(chunk)), dim=-1)
                            for chunk in torch.arange(count).split(256)]) for _ in range(DRAWS)]
        points = functional.normalize(sum(draws), dim=-1)
    held_out = set(queries())
    captions = Captions(tokenizer, fillers=True)
    pairs = [(word, meaning) for word, meaning in definitions() if not {word, meaning} & held_out]
    print(len(captions.fits), "phrases,", len(pairs), "definitions", flush=True)

    text_tower = towers["text"]
    averaged = copy.deepcopy(text_tower)
    optimizer = torch.optim.AdamW(text_tower.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    started = time.time()
    for step in range(1, arguments.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(step / WARM_UP, 1) * (0.5 + 0.5 * np.cos(np.pi * step / arguments.steps)) + 1e-6
        ids, mask, targets = captions.batch(torch.randint(count, (PHRASES,)).tolist())
        chosen = random.sample(pairs, DEFINITIONS)
        both = tokenize(tokenizer, [word for word, _ in chosen] + [meaning for _, meaning in chosen])
        with torch.autocast("cpu", torch.bfloat16):
            texts, meanings = text_tower(ids, mask), text_tower(*both)
        texts, meanings = (functional.normalize(x.float(), dim=-1) for x in (texts, meanings))
        loss_phrase = functional.cross_entropy(SCALE * texts @ points.T, targets)
        likeness = SCALE / 2 * meanings[:DEFINITIONS] @ meanings[DEFINITIONS:].T
        own = torch.arange(DEFINITIONS)
        loss_meaning = functional.cross_entropy(likeness, own) + functional.cross_entropy(likeness.T, own)
        loss = loss_phrase + 0.25 * loss_meaning
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(text_tower.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), text_tower.parameters()):
                slow.lerp_(fast, 1 - min(EMA, (1 + step) / (10 + step)))
        if step % 50 == 0:
            print(f"{step} {time.time() - started:.0f}s phrase {loss_phrase:.3f} meaning {loss_meaning:.3f}", flush=True)
        if step % 500 == 0 or step == arguments.steps:
            towers_now = copy.deepcopy(towers)
            towers_now["text"] = averaged
            torch.save(state | {"towers": towers_now.state_dict(), "refined": step}, arguments.workdir / "refined.pt")
    (arguments.workdir / "refined.pt").rename(arguments.workdir / "towers.pt")


if __name__ == "__main__":
    main()
