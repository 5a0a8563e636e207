"""What people would say of each emoji: names, keywords, WordNet's synonyms and broader words.

Every phrase comes with all emoji that it fits, so that "money" is not punished for fitting ten pictures. Debian
package: wordnet-base.
"""

import re
from collections import defaultdict
from functools import cache

from render import Emoji, emoji

WORDNET = "/usr/share/wordnet/"
# How far up the tree of broader words: three steps lead from "cello" to "musical instrument", five to "object".
BROADER_STEPS = 4
# Broader words that fit more than this are about nothing.
MOST_EMOJI = 160
# Words of Unicode's groups that say how the chart is sorted, not what is shown.
CHART_WORDS = {"other", "symbol", "symbols", "component", "misc", "marker", "alphanum", "av", "partial", "parts", "prop",
               "open", "closed", "single", "fingers", "role", "creature", "punctuation", "geometric", "keycap"}


@cache
def _wordnet():
    """Synsets of nouns by offset: (words, offsets of broader synsets, gloss); and each noun's first synset."""
    synsets = {}
    for line in open(WORDNET + "data.noun", encoding="latin-1"):
        if line.startswith("  "):
            continue
        fields, gloss = line.split(" | ", 1)
        fields = fields.split()
        count = int(fields[3], 16)
        words = [word.replace("_", " ").lower() for word in fields[4:4 + 2 * count:2]]
        pointers = fields[4 + 2 * count + 1:]
        broader = [pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("@", "@i")]
        synsets[fields[0]] = (words, broader, gloss)
    first = {}
    for line in open(WORDNET + "index.noun", encoding="latin-1"):
        if not line.startswith("  "):
            fields = line.split()
            first[fields[0].replace("_", " ")] = fields[-int(fields[2])]
    return synsets, first


def _sense(phrase: str) -> str | None:
    _, first = _wordnet()
    for candidate in (phrase, phrase.removesuffix("s"), phrase.split()[-1] if phrase else ""):
        if candidate in first:
            return first[candidate]
    return None


def _broader(offset: str) -> dict[str, int]:
    """Words of a synset (0 steps) and of the synsets above it."""
    synsets, _ = _wordnet()
    words, edge = {}, [offset]
    for step in range(BROADER_STEPS + 1):
        following = []
        for current in edge:
            names, above, _ = synsets[current]
            for name in names:
                words.setdefault(name, step)
            following += above
        edge = following
    return words


def _gloss(offset: str) -> str:
    gloss = _wordnet()[0][offset][2]
    return re.sub(r"\(.*?\)", "", gloss.split('"')[0].split(";")[0]).strip().lower()


def _chart_phrases(e: Emoji) -> set[str]:
    parts = [word for word in e.subgroup.split("-") if word not in CHART_WORDS]
    phrases = set(parts) | {" ".join(reversed(parts)), " ".join(parts)}
    phrases |= {word.strip() for word in e.group.split("&")}
    return {phrase for phrase in phrases if phrase and phrase not in CHART_WORDS}


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else word + "s"


@cache
def _kin() -> dict[str, set[str]]:
    """Words that stand beside a verb or an adjective in its first sense: "angry" and "furious"."""
    kin = defaultdict(set)
    for part in ("verb", "adj"):
        synsets = {}
        for line in open(WORDNET + f"data.{part}", encoding="latin-1"):
            if not line.startswith("  "):
                fields = line.split(" | ", 1)[0].split()
                count = int(fields[3], 16)
                words = {word.split("(")[0].replace("_", " ").lower() for word in fields[4:4 + 2 * count:2]}
                pointers = fields[5 + 2 * count:]
                near = [pointers[i + 1] for i in range(0, len(pointers) - 3, 4)
                        if pointers[i] in ("&", "@") and pointers[i + 2] in "avs"]
                synsets[fields[0]] = (words, near)
        for line in open(WORDNET + f"index.{part}", encoding="latin-1"):
            if not line.startswith("  "):
                fields = line.split()
                words, near = synsets[fields[-int(fields[2])]]
                kin[fields[0].replace("_", " ")] |= words.union(*(synsets[o][0] for o in near if o in synsets))
    return kin


@cache
def definitions() -> list[tuple[str, str]]:
    """Words and what WordNet says they mean, for all nouns, verbs and adjectives: the language beyond emoji."""
    pairs = []
    for part in ("noun", "verb", "adj"):
        for line in open(WORDNET + f"data.{part}", encoding="latin-1"):
            if line.startswith("  "):
                continue
            fields, gloss = line.split(" | ", 1)
            fields = fields.split()
            words = [word.split("(")[0].replace("_", " ").lower() for word in fields[4:4 + 2 * int(fields[3], 16):2]]
            meaning = re.sub(r"\(.*?\)", "", gloss.split('"')[0].split(";")[0]).strip().lower()
            examples = [example.lower() for example in re.findall(r'"([^"]+)"', gloss)]
            if words[0][0].isalpha() and len(meaning.split()) >= 2:
                pairs += [(word, meaning) for word in words[:3]] + [(words[0], example) for example in examples[:2]]
    return pairs


@cache
def phrases() -> tuple[dict[str, dict[int, float]], list[list[str]]]:
    """Phrase to the emoji that it fits (by index) with weights, and each emoji's own phrases, name first."""
    known = emoji()
    fits: dict[str, dict[int, float]] = defaultdict(dict)

    def add(phrase: str, index: int, weight: float):
        fits[phrase][index] = max(weight, fits[phrase].get(index, 0.0))

    for index, e in enumerate(known):
        for keyword in e.keywords:
            add(keyword, index, 1.0)
            for word in keyword.split():
                if len(word) > 3:
                    add(word, index, 0.5)
            for word in _kin().get(keyword, ()):
                add(word, index, 0.6)
        for phrase in _chart_phrases(e):
            add(phrase, index, 1.0)
            add(_plural(phrase), index, 1.0)
        for word in re.findall(r"[a-z']{4,}", e.name):
            add(word, index, 0.7)
        sense = _sense(e.name.split(":")[-1].strip())
        if sense:
            for word, step in _broader(sense).items():
                add(word, index, 1.0 if step < 2 else 0.7)
                if step < 3:
                    add(_plural(word), index, 0.7)
            gloss = _gloss(sense)
            if 3 <= len(gloss.split()) <= 24:
                add(gloss, index, 1.0)
    fits = {phrase: found for phrase, found in fits.items() if len(found) <= MOST_EMOJI and len(phrase) > 1}

    # A name means its emoji first; twins (man, woman, person) share it.
    twins = defaultdict(list)
    for index, e in enumerate(known):
        twins[e.twin].append(index)
    for index, e in enumerate(known):
        fits[e.name] = {twin: 0.15 for twin in twins[e.twin]} | {index: 1.0}
    own = [[e.name] for e in known]
    for phrase, found in fits.items():
        for index in found:
            if phrase != known[index].name:
                own[index].append(phrase)
    return fits, own


TEMPLATES = (
    "{}", "{}", "{}", "a {}", "the {}", "some {}", "{} emoji", "an emoji of {}", "a picture of {}", "a photo of a {}",
    "an image of a {}", "a drawing of {}", "icon of {}", "something like {}", "it is a {}", "this is {}", "show me {}",
    "I want {}", "with {}", "my {}", "{}!", "nice {}", "{} please", "a person with {}", "{} and more", "look, {}",
)


if __name__ == "__main__":
    fits, own = phrases()
    print(len(fits), "phrases,", sum(map(len, own)) // len(own), "for each emoji")
