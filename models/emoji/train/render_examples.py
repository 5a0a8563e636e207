"""Writes the example images: a few hundred well-known emoji as 72 x 72 PNG in PostgreSQL's COPY text format.

Usage: render_examples.py FILE. It has two columns, the CLDR short name and the image, for
\\copy emoji (name, picture) FROM 'examples/emoji.tsv'
"""

import io
import sys
from pathlib import Path

from PIL import Image

from render import VARIATION_SELECTOR, compose, emoji

SIDE = 72
# A palette halves the file. 160 colors keep the shading smooth.
COLORS = 160
CHOSEN = """
😀 😂 😍 😎 🤔 😴 😡 😭 😱 🥳 🤢 🥶 🤠 😇 🤯 😘 👻 💀 👽 🤖 🎃 🤡
👍 👋 👏 🙏 💪 🧠 🦷 ❤️ 💔 💤
👶 👮 🧑‍🚒 🧑‍🍳 🧑‍🏫 🧑‍⚕️ 🧑‍🚀 🧑‍🎨 👷 👸 🎅 🧙 🧟 🧜 🧚 💃 🤱
🐶 🐱 🦊 🐻 🐼 🐨 🐯 🦁 🐸 🐧 🦆 🦅 🦉 🦇 🦄 🐝 🦋 🐌 🐞 🕷️ 🐢 🐍 🦖 🐙
🦀 🐠 🐬 🐳 🦈 🐊 🦓 🦍 🐘 🐪 🦒 🦘 🐎 🐖 🦌 🐓 🦚 🦜 🦩 🐇 🦝 🐿️ 🦔 🐉
🌵 🎄 🌲 🌴 🍀 🍁 🍄 🌷 🌹 🌻 💐
🍎 🍋 🍌 🍉 🍇 🍓 🍒 🍍 🥥 🍅 🍆 🥑 🥦 🌽 🥕 🌶️ 🥒 🥐 🍞 🥨 🧀 🥚 🍳 🥞 🥩 🍗 🌭 🍔 🍟 🍕 🥪
🌮 🥗 🍝 🍜 🍣 🍦 🥧 🍰 🎂 🍭 🍫 🍿 🍩 🍪 🍯 ☕ 🍵 🍺 🍷 🍾 🍴
⚽ 🏀 🏈 ⚾ 🎾 🏐 🎱 🏓 ⛳ 🪁 🏹 🎣 🥊 🛹 ⛸️ 🏂 🪂 🏋️ 🧘 🏄 🏊 🚴 🏆 🥇 🎪 🎭 🎨 🎬 🎲 ♟️ 🎯 🎳 🎮 🧩 🃏
🎤 🎧 🎹 🥁 🎷 🎺 🎸 🎻 🎵
🚗 🏎️ 🚓 🚑 🚒 🚜 🚲 🏍️ 🚂 🚇 ✈️ 🚁 🚀 🛸 ⛵ 🚢 ⚓ ⛽ 🚦 🛑 🗺️ 🗽 🏰 🎡 🎢 🏖️ 🏜️ 🌋 🏔️ ⛺ 🏠 🏭 🏥 🏫 ⛪ 🕌
🌍 🌙 ⭐ ☀️ 🌧️ ⛈️ 🌈 ❄️ ⛄ 🌪️ 🔥 💧 🌊 ⚡ 🪐 🌌
⌚ 📱 💻 📷 📺 📻 ⏰ ⌛ 🔋 💡 🔦 🕯️ 💰 💳 💎 ⚖️ 🔧 🔨 🧲 🔪 🛡️ 🔮 🔭 🔬 💊 💉 🧬 🚽 🚿 🛁 🧹 🧼 🔑 🚪 🪑 🛏️ 🧸 🎁 🎈
✉️ 📦 📅 📊 ✂️ 🔒 📖 📚 ✏️ 🔍 🎓 👑 👟 👗 👖 🧦 👜 🎒 👓 🌂 💍 💄 ♻️ ⚠️ 🚫
""".split()


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.quantize(COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def main(file: Path) -> None:
    known = {e.text.replace(VARIATION_SELECTOR, ""): e for e in emoji()}
    chosen = [known[text.replace(VARIATION_SELECTOR, "")] for text in dict.fromkeys(CHOSEN)]
    rows = [f"{e.name}\t\\\\x{png(compose(e.picture, SIDE, (255, 255, 255))).hex()}\n" for e in chosen]
    file.write_text("".join(rows))
    print(len(rows), "emoji,", file.stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
