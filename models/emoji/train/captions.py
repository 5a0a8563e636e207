"""Generates endless captions of the emoji, each with all emoji that it fits.

There are four kinds of captions: names; CLDR's keywords, which several images share; queries of a few words that fit one
emoji; and WordNet's own words, definitions and examples. The targets of the last two kinds are the teacher's votes. No caption
contains a query of the evaluation.
"""

import random
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from render import emoji
from teacher import STOP_WORDS, Teacher, meaning, terms, wordnet
from towers import CONTEXT_LENGTH

TEMPLATES = (
    "{}", "{}", "{}", "{}", "a {}", "the {}", "some {}", "{} emoji", "an emoji of {}", "a picture of {}", "{}!",
    "a photo of a {}", "an image of a {}", "a drawing of {}", "icon of {}", "show me {}", "something like {}",
)
FILLERS = sorted(STOP_WORDS)
KINDS = {"name": 0.3, "keyword": 0.15, "made up": 0.3, "wordnet": 0.25}
# A man, a woman and a person of the same activity share a part of each other's names.
TWIN_WEIGHT = 0.15
# The sharpness of the votes: at 2.5, a word that fits only one emoji gives it nine tenths.
SHARPNESS = 2.5
# The number of emoji that a target keeps, and of words that are known for each emoji.
KEPT_EMOJI, KEPT_WORDS = 64, 150
# If the best vote is below this, the text is about no emoji.
LEAST_VOTE = 1.0
# Longer texts of WordNet are left out: queries are short, and long texts slow down the training.
MOST_WORDS = 10


def queries() -> list[str]:
    lines = Path(__file__).with_name("queries.tsv").read_text().splitlines()
    return [line.split("\t")[0].lower() for line in lines if line and not line.startswith("#")]


def plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2:-1] not in tuple("aeiou") else word + "s"


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and mask. Long texts are truncated before the end token, and short ones padded to the longest."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    end = ids[0][-1]
    ids = [row[:CONTEXT_LENGTH - 1] + [end] if len(row) > CONTEXT_LENGTH else row for row in ids]
    length = max(map(len, ids))
    padded = torch.tensor([row + [end] * (length - len(row)) for row in ids])
    return padded, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])


class Captions:
    def __init__(self):
        self.known, self.teacher, net = emoji(), Teacher(), wordnet()
        held_out = queries()
        assert not {e.name.lower() for e in self.known} & set(held_out), "a query is an emoji's name"
        self.held_out = re.compile("|".join(map(re.escape, held_out)))

        twins, holders = defaultdict(list), defaultdict(list)
        for index, e in enumerate(self.known):
            twins[e.twin].append(index)
            for keyword in e.keywords:
                holders[keyword].append(index)
        self.twins = [twins[e.twin] for e in self.known]
        self.holders = dict(holders)

        # WordNet's words and texts. Common ones are more frequent.
        self.words = [w for w in net.senses if self.teacher.word(w) is not None and re.fullmatch(r"[a-z][a-z' -]+", w)]
        self.texts = []
        for key, gloss in net.gloss.items():
            head = net.words[key][0]
            weight = (1 + max(net.frequency.get(w, 0) for w in net.words[key])) ** 0.5
            texts = [meaning(gloss).split(";")[0]] + [t.lower() for t in re.findall(r'"([^"]+)"', gloss)[:2]]
            self.texts += [(text, head, weight) for text in texts if 1 < len(text.split()) <= MOST_WORDS]
        own = np.array([w in self.teacher.own for w in self.words], np.float32)
        often = np.array([net.frequency[w] for w in self.words], np.float32)
        self.word_chances = np.cumsum((0.1 + often) ** 0.5 + 4 * own)
        self.text_chances = np.cumsum([weight for _, _, weight in self.texts])

        # The words that fit each emoji best.
        votes = np.stack([self.teacher.word(w) for w in self.words]).astype(np.float16)
        common = 0.05 + np.log1p(often) + 2 * own
        self.emoji_words = []
        for index in range(len(self.known)):
            column = votes[:, index].astype(np.float32)
            best = np.argpartition(-column, KEPT_WORDS)[:KEPT_WORDS]
            chances = column[best] ** 2 * common[best]
            self.emoji_words.append(([self.words[i] for i in best], np.cumsum(chances)))

    def corpus(self) -> list[str]:
        """Returns the texts for the tokenizer's training: the emoji's words count most, then common words."""
        net = wordnet()
        own = [text for e in self.known for text in [e.name] * 6 + list(e.keywords) * 4]
        words = [w for w in self.words for _ in range(1 + int(net.frequency[w] ** 0.5) + 6 * (w in self.teacher.own))]
        return own + words + [text for text, _, weight in self.texts if weight > 3]

    def draw(self, chances: np.ndarray) -> int:
        return int(np.searchsorted(chances, random.random() * chances[-1]))

    def target(self, votes: np.ndarray, words: int) -> dict[int, float] | None:
        if votes.max() < LEAST_VOTE:
            return None
        best = np.argpartition(-votes, KEPT_EMOJI)[:KEPT_EMOJI]
        likely = np.exp(SHARPNESS / max(words, 1) ** 0.5 * (votes[best] - votes.max()))
        return dict(zip(best.tolist(), (likely / likely.sum()).tolist()))

    def vote(self, found: list[str]) -> dict[int, float] | None:
        rows = [row for row in map(self.teacher.word, found) if row is not None]
        return self.target(sum(rows), len(rows)) if rows else None

    def name(self):
        index = random.randrange(len(self.known))
        target = {twin: TWIN_WEIGHT for twin in self.twins[index]} | {index: 1.0}
        return random.choice(TEMPLATES).format(self.known[index].name), target

    def keyword(self):
        keywords = random.choice(self.known).keywords
        if not keywords:
            return None
        keyword = random.choice(keywords)
        holders = self.holders[keyword]
        target = {index: 1.0 / len(holders) for index in holders}
        for index, chance in (self.vote(terms(keyword)) or {}).items():
            target[index] = target.get(index, 0) + chance
        return random.choice(TEMPLATES).format(keyword), target

    def made_up(self):
        if random.random() < 0.5:
            index, chosen = random.randrange(len(self.known)), []
        else:
            chosen = [self.words[self.draw(self.word_chances)]]
            likely = self.vote(chosen)
            if likely is None:
                return None
            index = random.choices(list(likely), list(likely.values()))[0]
        words, chances = self.emoji_words[index]
        while len(chosen) < random.choice((1, 2, 2, 3)):
            chosen.append(words[self.draw(chances)])
        random.shuffle(chosen)
        spoken = []
        for word in chosen:
            spoken += random.sample(FILLERS, random.choice((0, 0, 1, 1, 2)))
            spoken.append(plural(word) if random.random() < 0.2 else word)
        return random.choice(TEMPLATES).format(" ".join(spoken)), self.vote(chosen)

    def wordnet(self):
        if random.random() < 0.4:
            word = self.words[self.draw(self.word_chances)]
            return plural(word) if random.random() < 0.2 else random.choice(TEMPLATES).format(word), self.vote([word])
        text, head, _ = self.texts[self.draw(self.text_chances)]
        return text, self.vote(terms(text) + [head])

    def one(self):
        while True:
            kind = random.choices(list(KINDS), list(KINDS.values()))[0]
            made = getattr(self, kind.replace(" ", "_"))()
            if made and made[1] and not self.held_out.search(" ".join(made[0].lower().split())):
                return made

    def batch(self, tokenizer: Tokenizer, size: int):
        """Returns ids, mask, and for each text the probabilities of the emoji. Short texts come first."""
        made = sorted((self.one() for _ in range(size)), key=lambda pair: len(pair[0]))
        targets = torch.zeros(size, len(self.known))
        for row, (_, target) in enumerate(made):
            targets[row, list(target)] = torch.tensor(list(target.values()))
        return *tokenize(tokenizer, [text for text, _ in made]), targets / targets.sum(1, keepdim=True)


if __name__ == "__main__":
    captions = Captions()
    print(len(captions.words), "words,", len(captions.texts), "texts of WordNet")
    for _ in range(30):
        text, target = captions.one()
        best = sorted(target, key=target.get, reverse=True)[:5]
        print(text, "→", " ".join(captions.known[i].text for i in best), f"{target[best[0]] / sum(target.values()):.2f}")
