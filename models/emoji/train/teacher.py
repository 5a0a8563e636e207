"""Finds the emoji that a text fits, only with WordNet: the teacher of the text encoder.

Every word gets a weight for every emoji: from the emoji's own names and keywords, from the broader words of both ("violin"
and "fiddle" are bowed instruments), from the words of their definitions, and from related words. The words of a text then
vote. A word that fits many emoji has a small vote. The encoder learns these votes for WordNet's vocabulary, so that queries
with words from no caption are still near their meaning. Debian package: wordnet-base.
"""

import re
import sys
from collections import defaultdict
from functools import cache

import numpy as np

from render import VARIATION_SELECTOR, emoji

WORDNET = "/usr/share/wordnet/"
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
STOP_WORDS = set("""a about after all also am an and any are as at be because been being but by can could did do does
for from had has have he her here him his how i if in into is it its just let may me might more most must my no nor not
of off on one onto or other our out over own per quite rather shall she should so some such than that the their them
then there these they this those through to too under until up upon us very was we were what when where which while
who whom whose why will with within without would you your something somebody someone anything thing things etc used
having especially usually""".split())
# The factor of a step up the tree from a word: weak until an emoji is met, strong beyond.
BEFORE_MEETING, AFTER_MEETING = 0.85, 0.4
# The factor of a step up the tree from an emoji: "dog" is a fair "animal".
EMOJI_STEP = 0.6
STEPS = 8
# Weights of the other ways from a word to an emoji: own name or keyword, the emoji's definition, the word's definition, related
# words (derived, similar).
OWN, IN_DEFINITION, BY_DEFINITION, KINDRED = 0.8, 0.5, 0.35, 0.6
# An association of this strength counts as none. A smaller value trusts rare links more.
NONE = 0.1


class WordNet:
    def __init__(self):
        self.words, self.above, self.near, self.gloss = {}, {}, {}, {}
        for part, letter in PARTS.items():
            for line in open(WORDNET + f"data.{part}", encoding="latin-1"):
                if line.startswith("  "):
                    continue
                fields, gloss = line.split(" | ", 1)
                fields = fields.split()
                count = int(fields[3], 16)
                key = letter + fields[0]
                self.words[key] = [w.split("(")[0].replace("_", " ").lower() for w in fields[4:4 + 2 * count:2]]
                pointers = [fields[i:i + 4] for i in range(5 + 2 * count, 5 + 2 * count + 4 * int(fields[4 + 2 * count]), 4)]
                self.above[key] = [p[2] + p[1] for p in pointers if p[0] in ("@", "@i")]
                self.near[key] = [p[2].replace("s", "a") + p[1] for p in pointers
                                  if p[0] in ("&", "+", "\\", "=", "#p", "#m", "#s", "%p", "%s", "^", "*", ">")]
                self.gloss[key] = gloss.strip()
        counts = {}
        for line in open(WORDNET + "cntlist.rev", encoding="latin-1"):
            sense, number, count = line.split()
            lemma, rest = sense.split("%")
            counts[lemma.replace("_", " "), "nvara"[int(rest[0]) - 1], int(number)] = int(count)
        self.senses: dict[str, list[tuple[str, float]]] = defaultdict(list)
        self.frequency: dict[str, int] = defaultdict(int)
        for part, letter in PARTS.items():
            for line in open(WORDNET + f"index.{part}", encoding="latin-1"):
                if line.startswith("  "):
                    continue
                fields = line.split()
                word, offsets = fields[0].replace("_", " "), fields[-int(fields[2]):]
                for number, offset in enumerate(offsets, 1):
                    count = counts.get((word, letter, number), 0)
                    self.frequency[word] += count
                    self.senses[word].append((letter + offset, (count + 1.0) / number))
        for word, found in self.senses.items():
            found.sort(key=lambda pair: -pair[1])
            total = sum(weight for _, weight in found)
            self.senses[word] = [(key, weight / total) for key, weight in found[:6]]
        self.odd = {}
        for part in PARTS:
            for line in open(WORDNET + f"{part}.exc", encoding="latin-1"):
                form, base = line.split()[:2]
                self.odd.setdefault(form, base)

    def lemma(self, word: str) -> str | None:
        if word in self.odd and word not in self.senses:
            return self.odd[word]
        if word in self.senses and not (word.endswith("s") and word[:-1] in self.senses):
            return word
        for ending, base in (("ies", "y"), ("es", ""), ("es", "e"), ("s", ""), ("ing", ""), ("ing", "e"), ("ed", ""),
                             ("ed", "e"), ("ied", "y"), ("er", ""), ("est", "")):
            stem = word[:len(word) - len(ending)]
            if word.endswith(ending) and len(stem) > 1:
                if stem + base in self.senses:
                    return stem + base
                if ending in ("ing", "ed", "er", "est") and stem[-1] == stem[-2] and stem[:-1] in self.senses:
                    return stem[:-1]
        return word if word in self.senses else self.odd.get(word)


@cache
def wordnet() -> WordNet:
    return WordNet()


def terms(text: str) -> list[str]:
    """Returns the lemmas of a text, longest collocations first, without stop words."""
    net = wordnet()
    words = re.findall(r"[a-z][a-z'-]*", text.lower().replace("’", "'").replace("'s", ""))
    found, at = [], 0
    while at < len(words):
        for length in (3, 2):
            piece = words[at:at + length]
            if len(piece) == length and piece[0] not in STOP_WORDS and piece[-1] not in STOP_WORDS:
                joined = " ".join(piece)
                last = " ".join((*piece[:-1], net.lemma(piece[-1]) or piece[-1]))
                match = next((form for form in (joined, last) if form in net.senses), None)
                if match:
                    found.append(match)
                    at += length
                    break
        else:
            if words[at] not in STOP_WORDS and len(words[at]) > 1:
                found.append(net.lemma(words[at]) or words[at])
            at += 1
    return found


def meaning(gloss: str) -> str:
    return re.sub(r"\(.*?\)", "", gloss.split('"')[0]).strip(" ;").lower()


@cache
def gloss_terms(key: str) -> tuple[str, ...]:
    return tuple(set(terms(meaning(wordnet().gloss[key]))))


def split_words(term: str) -> list[str]:
    return [term] + ([wordnet().lemma(w) or w for w in term.split() if w not in STOP_WORDS] if " " in term else [])


def emoji_senses(net: WordNet, own: dict[str, float], context: set[str]) -> dict[str, float]:
    """Returns the synsets of an emoji's names and keywords. A synset is likelier if it shares more words with the others."""
    senses = {}
    for term, weight in own.items():
        scored = []
        for key, prior in net.senses.get(term, ()):
            around = set(net.words[key]) | set(gloss_terms(key))
            for upper in net.above[key]:
                around |= set(net.words[upper]) | set(gloss_terms(upper))
                for top in net.above[upper]:
                    around |= set(net.words[top])
            shared = len((around & context) - {term})
            scored.append((key, (prior + 0.02) * (1 + 2.0 * shared) ** 1.5 * (1.5 if key[0] == "n" else 1.0)))
        total = sum(score for _, score in scored)
        for key, score in scored:
            if score / total > 0.1:
                senses[key] = max(senses.get(key, 0), weight * score / total)
    return senses


class Teacher:
    def __init__(self):
        net, known = wordnet(), emoji()
        count = len(known)
        own_rows, in_rows = defaultdict(lambda: defaultdict(float)), defaultdict(lambda: defaultdict(float))
        nodes = defaultdict(lambda: defaultdict(float))
        for index, e in enumerate(known):
            own = {}
            named = terms(re.sub(r"\b(face|button)\b", "", e.name)) or terms(e.name)
            for term in named:
                own[term] = 1.0 / len(named) ** 0.5
            for keyword in e.keywords:
                for term in (found := terms(keyword)):
                    own[term] = max(own.get(term, 0), 0.75 / len(found) ** 0.5)
            context = {w for term in own for w in split_words(term)}
            context |= {net.lemma(w) or w for w in e.subgroup.split("-")} | set(terms(e.group))
            for term, weight in own.items():
                for piece in split_words(term):
                    value = weight if piece == term else 0.5 * weight
                    own_rows[piece][index] = max(own_rows[piece][index], value)
            for piece in e.subgroup.split("-"):
                own_rows[net.lemma(piece) or piece][index] = max(own_rows[net.lemma(piece) or piece][index], 0.5)
            for key, weight in emoji_senses(net, own, context).items():
                for term in gloss_terms(key):
                    for piece in split_words(term):
                        in_rows[piece][index] = max(in_rows[piece][index], weight)
                edge, step = {key: weight}, 0
                while edge and step < STEPS:
                    following = {}
                    for node, value in edge.items():
                        nodes[node][index] = max(nodes[node][index], value)
                        for upper in net.above[node]:
                            following[upper] = max(following.get(upper, 0), value * EMOJI_STEP)
                    edge, step = following, step + 1
        self.count = count
        self.own = {t: self.dense(row) for t, row in own_rows.items()}
        self.in_definition = {t: self.dense(row) for t, row in in_rows.items()}
        self.nodes = {}
        for node, row in nodes.items():
            row = self.dense(row)
            self.nodes[node] = row * self.rarity(row)
        self.rows: dict[str, np.ndarray | None] = {}

    def dense(self, row: dict[int, float]) -> np.ndarray:
        full = np.zeros(self.count, np.float32)
        full[list(row)] = list(row.values())
        return full

    def rarity(self, row: np.ndarray) -> float:
        """Returns 1 for a word that fits one emoji, and 0 for a word that fits all equally."""
        total = row.sum()
        return float(1 - np.log(max(total ** 2 / (row ** 2).sum(), 1)) / np.log(self.count)) if total else 0.0

    def upward(self, key: str) -> np.ndarray:
        net, row = wordnet(), np.zeros(self.count, np.float32)
        edge, seen = {key: 1.0}, set()
        for _ in range(STEPS):
            following = {}
            for node, weight in edge.items():
                seen.add(node)
                met = node in self.nodes
                if met:
                    row = np.maximum(row, weight * self.nodes[node])
                for upper in net.above[node]:
                    if upper not in seen:
                        value = weight * (AFTER_MEETING if met else BEFORE_MEETING)
                        following[upper] = max(following.get(upper, 0), value)
            edge = following
        return row

    def word(self, term: str) -> np.ndarray | None:
        """Returns a word's weight for each emoji, or None if it fits none."""
        if term in self.rows:
            return self.rows[term]
        net, row = wordnet(), np.zeros(self.count, np.float32)
        if term in self.own:
            row += OWN * self.own[term] * (0.3 + self.rarity(self.own[term]))
        if term in self.in_definition:
            row += IN_DEFINITION * self.in_definition[term] * self.rarity(self.in_definition[term])
        for key, chance in net.senses.get(term, ())[:4]:
            if chance < 0.08:
                continue
            row += chance ** 0.7 * self.upward(key)
            for near in net.near[key][:12]:
                if near in self.nodes:
                    row += KINDRED * chance * self.nodes[near]
                for word in net.words.get(near, ())[:3]:
                    if word in self.own and word != term:
                        row += KINDRED * chance * 0.5 * self.own[word] * self.rarity(self.own[word])
            for word in net.words[key]:
                if word in self.own and word != term:
                    row += chance * 0.8 * self.own[word] * self.rarity(self.own[word])
            for word in gloss_terms(key):
                for piece in split_words(word):
                    if piece in self.own:
                        rarity = self.rarity(self.own[piece])
                        row += BY_DEFINITION * chance * rarity ** 2 * self.own[piece]
        if not row.any() and " " in term:
            parts = [r for r in (self.word(piece) for piece in term.split()) if r is not None]
            self.rows[term] = sum(parts) if parts else None
            return self.rows[term]
        self.rows[term] = None
        if row.max() > 0.05:
            votes = np.log1p(row / max(row.max(), 0.4) / NONE)
            self.rows[term] = votes * (0.15 + self.rarity(row ** 2))
        return self.rows[term]

    def votes(self, text: str) -> np.ndarray | None:
        rows = [r for r in map(self.word, terms(text)) if r is not None]
        return sum(rows) if rows else None


if __name__ == "__main__":
    # Measures the teacher's own results for a list of queries: the encoder cannot be much better.
    teacher, texts = Teacher(), [e.text.replace(VARIATION_SELECTOR, "") for e in emoji()]
    hits = []
    for line in open(sys.argv[1], encoding="utf-8"):
        if not line.startswith("#"):
            query, fitting = line.rstrip("\n").split("\t")
            votes = teacher.votes(query)
            best = [texts[i] for i in np.argsort(-votes)[:5]] if votes is not None else []
            hits.append(any(text.replace(VARIATION_SELECTOR, "") in best for text in fitting.split()))
            print("+" if hits[-1] else "-", query, "→", " ".join(best))
    print(sum(hits), "of", len(hits))
