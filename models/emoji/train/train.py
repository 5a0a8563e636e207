"""Train the towers. Usage: train.py WORKDIR [--steps N]. Writes WORKDIR/towers.pt and WORKDIR/tokenizer.json.

Both towers learn to point at one learned vector per emoji, and at each other within the batch. A phrase that fits
several emoji points between them; a picture points at its own.
"""

import argparse
import copy
import random
import re
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn import functional

from captions import TEMPLATES, _wordnet, phrases
from render import emoji
from towers import CONTEXT_LENGTH, DIMENSIONS, IMAGE_SIZE, ImageTower, TextTower

SEED = 20261123
VOCABULARY = 4000
# Side of the cached pictures: above the model's, so that it can zoom in.
CACHED_SIDE = 96
IMAGES, TEXTS = 256, 320
PEAK_RATE, WARM_UP = 1.5e-3, 300
EMA = 0.998
FILLERS = ("a the in of my your our to for with on at is who that very this some from it and or be by one i you we they "
           "their his her good big little new old day time people person thing something somebody man woman here there "
           "when where up down out into about like want need make go get have can do now").split()
CLIP_SPLIT = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def queries() -> list[str]:
    lines = Path(__file__).with_name("queries.tsv").read_text().splitlines()
    return [line.split("\t")[0].lower() for line in lines if line and not line.startswith("#")]


def learn_tokenizer(texts: list[str]) -> Tokenizer:
    """CLIP's pipeline with a vocabulary of our own."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CLIP_SPLIT), "removed", invert=True), pre_tokenizers.ByteLevel(False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # A byte at the end of a word is another token than inside one: all of both must be there.
    texts = texts + [letter for letter in alphabet for _ in range(2)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False,
        special_tokens=["<|startoftext|>", "<|endoftext|>"])
    tokenizer.train_from_iterator(texts, trainer)
    start, end = (tokenizer.token_to_id(f"<|{word}oftext|>") for word in ("start", "end"))
    tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", end), ("<|startoftext|>", start), False)
    return tokenizer


class Pictures:
    """All emoji as one tensor, drawn anew for each batch: moved, turned, scaled, on all kinds of backgrounds."""

    def __init__(self):
        stack = []
        for e in emoji():
            square = e.picture.copy()
            side = max(square.size)
            canvas = np.zeros((side, side, 4), np.uint8)
            top, left = (side - square.height) // 2, (side - square.width) // 2
            canvas[top:top + square.height, left:left + square.width] = np.asarray(square)
            small = Image.fromarray(canvas).resize((CACHED_SIDE, CACHED_SIDE), Image.Resampling.LANCZOS)
            stack.append(np.asarray(small))
        self.rgba = torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2).contiguous()

    def batch(self, index: torch.Tensor) -> torch.Tensor:
        n = len(index)
        rgba = self.rgba[index].float() / 255
        color, alpha = rgba[:, :3], rgba[:, 3:]
        angle = torch.randn(n) * 0.12
        zoom = 1 / torch.empty(n).uniform_(0.62, 1.04)
        stretch = torch.exp(torch.randn(n) * 0.04)
        shift = (torch.rand(n, 2) - 0.5) * 0.24
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = torch.stack([torch.stack([cos * stretch, -sin, shift[:, 0]], 1),
                            torch.stack([sin, cos / stretch, shift[:, 1]], 1)], 1)
        grid = functional.affine_grid(rows, [n, 4, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
        drawn = functional.grid_sample(torch.cat([color * alpha, alpha], 1), grid, align_corners=False)
        color, alpha = drawn[:, :3], drawn[:, 3:]
        picture = color + (1 - alpha) * self.background(n)
        # A reader that drops transparency shows the bare colours on black, without soft edges.
        bare = (torch.rand(n, 1, 1, 1) < 0.07).float()
        picture = bare * color / alpha.clamp(min=1e-3) * (alpha > 0.02) + (1 - bare) * picture
        contrast, light = 1 + torch.randn(n, 1, 1, 1) * 0.12, torch.randn(n, 3, 1, 1) * 0.04
        picture = (picture - 0.5) * contrast + 0.5 + light
        blurred = functional.avg_pool2d(functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
        amount = torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.4)
        picture = picture + (blurred - picture) * amount
        picture = picture + torch.randn_like(picture) * 0.03 * (torch.rand(n, 1, 1, 1) < 0.3)
        return picture.clamp(0, 1) * 2 - 1

    def background(self, n: int) -> torch.Tensor:
        flat = torch.rand(n, 3, 1, 1)
        kind = torch.rand(n, 1, 1, 1)
        flat = torch.where(kind < 0.45, torch.ones_like(flat), torch.where(kind < 0.55, torch.zeros_like(flat), flat))
        ramp = torch.linspace(0, 1, IMAGE_SIZE)
        ramp = torch.where(torch.rand(n, 1, 1, 1) < 0.5, ramp.view(1, 1, 1, -1), ramp.view(1, 1, -1, 1))
        gradient = flat + (torch.rand(n, 3, 1, 1) - flat) * ramp
        return torch.where(kind > 0.85, gradient, flat.expand(-1, -1, IMAGE_SIZE, IMAGE_SIZE))


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, cut with the end kept and filled up to the longest."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    end = ids[0][-1]
    ids = [row[:CONTEXT_LENGTH - 1] + [end] if len(row) > CONTEXT_LENGTH else row for row in ids]
    length = max(map(len, ids))
    padded = torch.tensor([row + [end] * (length - len(row)) for row in ids])
    return padded, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])


class Captions:
    """Phrases in templates, alone and together, each with all emoji that it fits."""

    def __init__(self, tokenizer: Tokenizer, fillers: bool = False):
        self.tokenizer, self.fillers = tokenizer, fillers
        fits, own = phrases()
        held_out = queries()
        names = {e.name for e in emoji()}
        assert not names & set(held_out), "a query is an emoji's name"
        allowed = {p for p in fits if not any(q in p for q in held_out)}
        self.fits = {p: f for p, f in fits.items() if p in allowed}
        self.own = [[p for p in own_phrases if p in allowed] for own_phrases in own]
        self.held_out = re.compile("|".join(map(re.escape, held_out)))

    def text(self, index: int) -> tuple[str, dict[int, float]]:
        own = self.own[index]
        if len(own) == 1 or random.random() < 0.4:
            phrase, fits = own[0], self.fits[own[0]]
        elif random.random() < 0.65:
            phrase = random.choice(own[1:])
            fits = self.fits[phrase]
        else:
            chosen = random.sample(own, min(len(own), random.choice((2, 2, 3))))
            phrase = random.choice((" ", " ", ", ", " and ", " of ", " with ")).join(chosen)
            fits = self.fits[chosen[0]]
            for other in chosen[1:]:
                fits = {i: w * self.fits[other][i] for i, w in fits.items() if i in self.fits[other]}
        text = self.padded_out(random.choice(TEMPLATES).format(phrase)) if self.fillers else random.choice(TEMPLATES).format(phrase)
        return (text, fits) if not self.held_out.search(text.lower()) else self.text(index)

    def padded_out(self, text: str) -> str:
        """Small words of everyday speech, put in anywhere: they must not matter."""
        words = text.split()
        for _ in range(random.choice((0, 0, 1, 2, 3))):
            words.insert(random.randint(0, len(words)), random.choice(FILLERS))
        return " ".join(words)

    def batch(self, indices: list[int]):
        texts, targets = [], torch.zeros(len(indices), len(self.own))
        for row, index in enumerate(indices):
            text, fits = self.text(index)
            texts.append(text)
            targets[row, list(fits)] = torch.tensor(list(fits.values()))
        return *tokenize(self.tokenizer, texts), targets / targets.sum(1, keepdim=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("workdir", type=Path)
    arguments.add_argument("--steps", type=int, default=8000)
    arguments = arguments.parse_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    random.seed(SEED), torch.manual_seed(SEED)

    fits, own = phrases()
    glosses = [gloss for _, _, gloss in list(_wordnet()[0].values())[::8]]
    names = [phrase for row in own for phrase in row] + list(fits) * 3
    tokenizer = learn_tokenizer(names + glosses)
    tokenizer.save(str(arguments.workdir / "tokenizer.json"))
    captions, pictures = Captions(tokenizer), Pictures()
    count = len(emoji())

    text_tower = TextTower(tokenizer.get_vocab_size(), tokenizer.token_to_id("<|endoftext|>"))
    image_tower = ImageTower()
    anchors = nn.Parameter(torch.randn(count, DIMENSIONS))
    log_scale = nn.Parameter(torch.tensor(3.0))
    towers = nn.ModuleDict({"text": text_tower, "image": image_tower})
    averaged = copy.deepcopy(towers)
    parameters = sum(p.numel() for p in towers.parameters())
    print(count, "emoji,", len(captions.fits), "phrases,", parameters, "parameters", flush=True)
    decayed = [p for p in towers.parameters() if p.ndim > 1]
    plain = [p for p in towers.parameters() if p.ndim <= 1] + [anchors, log_scale]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
                                  lr=PEAK_RATE, betas=(0.9, 0.98))
    rate = lambda step: min(step / WARM_UP, 1.0) * (0.5 + 0.5 * np.cos(np.pi * min(step / arguments.steps, 1.0))) + 1e-3
    started = time.time()
    for step in range(1, arguments.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * rate(step)
        index = torch.randperm(count)[:IMAGES]
        others = torch.randint(count, (TEXTS - IMAGES,))
        ids, mask, targets = captions.batch(torch.cat([index, others]).tolist())
        pixels = pictures.batch(index)
        with torch.autocast("cpu", torch.bfloat16):
            texts, images = text_tower(ids, mask), image_tower(pixels)
        texts, images = (functional.normalize(x.float(), dim=-1) for x in (texts, images))
        points = functional.normalize(anchors, dim=-1)
        scale = log_scale.clamp(max=4.6).exp()
        loss_text = functional.cross_entropy(scale * texts @ points.T, targets)
        loss_image = functional.cross_entropy(scale * images @ points.T, index)
        # Directly, within the batch: rows are texts, columns are this batch's pictures.
        shared = targets[:, index]
        shared = shared / shared.sum(1, keepdim=True).clamp(min=1e-6)
        present = shared.sum(1) > 0
        loss_pair = functional.cross_entropy((scale * texts @ images.T)[present], shared[present])
        loss = loss_text + loss_image + loss_pair
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            keep = min(EMA, (1 + step) / (10 + step))
            for slow, fast in zip(averaged.parameters(), towers.parameters()):
                slow.lerp_(fast, 1 - keep)
        if step % 50 == 0:
            print(f"{step} {time.time() - started:.0f}s text {loss_text:.3f} image {loss_image:.3f} pair {loss_pair:.3f} "
                  f"scale {scale:.1f}", flush=True)
        if step % 500 == 0 or step == arguments.steps:
            state = {"towers": averaged.state_dict(), "log_scale": log_scale.item(), "step": step}
            torch.save(state, arguments.workdir / "towers.new")
            (arguments.workdir / "towers.new").rename(arguments.workdir / "towers.pt")


if __name__ == "__main__":
    main()
