"""The emoji of the model, and their images from the font.

Noto Color Emoji is a bitmap font: every image is a PNG in its CBDT table. Reading them from the table needs no text
layout. Debian packages: fonts-noto-color-emoji, unicode-cldr-core, unicode-data.
"""

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from functools import cache

from fontTools.ttLib import TTFont
from PIL import Image

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
CLDR = "/usr/share/unicode/cldr/common/{}/en.xml"
EMOJI_TEST = "/usr/share/unicode/emoji/emoji-test.txt"

VARIATION_SELECTOR = "\ufe0f"
# Left out: variants of an image (skin tones), flags (letters, not things) and keycaps.
LEFT_OUT = re.compile("[\U0001f3fb-\U0001f3ff\U0001f1e6-\U0001f1ff\u20e3\U000e0020-\U000e007f]")
GENDER = re.compile(r"\b(man|woman|men|women|boy|girl|person|people|mx|mrs|santa)\b\.?", re.IGNORECASE)


@dataclass
class Emoji:
    text: str
    name: str
    keywords: list[str] = field(default_factory=list)
    group: str = ""
    subgroup: str = ""
    picture: Image.Image | None = None

    @property
    def twin(self) -> str:
        """Emoji with the same key are twins: man, woman and person of the same activity, families of a size."""
        return " ".join(GENDER.sub("", self.name).replace(":", "").lower().split()) or self.name


@cache
def _font():
    font = TTFont(FONT)
    pictures = {}
    for strike in font["CBDT"].strikeData:
        for glyph, bitmap in strike.items():
            if hasattr(bitmap, "imageData"):
                pictures[glyph] = bitmap.imageData
    ligatures = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, rest in getattr(table, "ligatures", {}).items():
                for ligature in rest:
                    ligatures[(first, *ligature.Component)] = ligature.LigGlyph
    return font.getBestCmap(), ligatures, pictures


def picture(text: str) -> Image.Image | None:
    """Returns the image of an emoji with its transparency, 136 x 128 pixels, or None if the font has none."""
    cmap, ligatures, pictures = _font()
    glyphs = tuple(cmap.get(ord(c)) for c in text if c != VARIATION_SELECTOR)
    glyph = glyphs[0] if len(glyphs) == 1 else ligatures.get(glyphs)
    return Image.open(io.BytesIO(pictures[glyph])).convert("RGBA") if glyph in pictures else None


def _annotations() -> tuple[dict[str, str], dict[str, list[str]]]:
    names, keywords = {}, {}
    for kind in ("annotations", "annotationsDerived"):
        for node in ElementTree.parse(CLDR.format(kind)).iter("annotation"):
            text = node.get("cp").replace(VARIATION_SELECTOR, "")
            if node.get("type") == "tts":
                names[text] = node.text
            else:
                keywords[text] = [word.strip().lower() for word in node.text.split("|")]
    return names, keywords


@cache
def emoji() -> tuple[Emoji, ...]:
    """Returns all emoji with a name and an image, in the order of Unicode's charts."""
    names, keywords = _annotations()
    found, group, subgroup = [], "", ""
    for line in open(EMOJI_TEST, encoding="utf-8"):
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip().lower()
        elif line.startswith("# subgroup:"):
            subgroup = line.split(":", 1)[1].strip().lower()
        elif "; fully-qualified" in line:
            text = "".join(chr(int(code, 16)) for code in line.split(";")[0].split())
            bare = text.replace(VARIATION_SELECTOR, "")
            if LEFT_OUT.search(text) or bare not in names:
                continue
            drawn = picture(text)
            if drawn is not None:
                found.append(Emoji(text, names[bare], keywords.get(bare, []), group, subgroup, drawn))
    return tuple(found)


def compose(drawn: Image.Image, side: int, background: tuple[int, int, int], margin: float = 0.06,
            degrees: float = 0.0) -> Image.Image:
    """Returns the emoji on a square of one color, like an image file."""
    inner = round(side * (1 - 2 * margin))
    scale = inner / max(drawn.size)
    size = (round(drawn.width * scale), round(drawn.height * scale))
    small = drawn.resize(size, Image.Resampling.LANCZOS)
    layer = Image.new("RGBA", (side, side), (*background, 0))
    layer.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2))
    layer = layer.rotate(degrees, Image.Resampling.BICUBIC)
    canvas = Image.new("RGBA", (side, side), (*background, 255))
    return Image.alpha_composite(canvas, layer).convert("RGB")


if __name__ == "__main__":
    known = emoji()
    print(len(known), "emoji,", len({e.twin for e in known}), "without twins")
