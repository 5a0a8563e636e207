"""Compares pg_clip with ONNX Runtime alone on the embedded model, in a minute. Information, not a test."""

from common import ROOT, photos
from latency import one_image, one_text, repeated_text

# One run of the embedded model's text encoder takes less than a millisecond, so the protocol is a visible part of the time.
folder = ROOT / "models/emoji"


def main() -> None:
    photos(1)
    text = one_text("emoji", folder, 300, 8, 24, 32)
    image = one_image("emoji", folder, 60, 64)
    print(f"bench-quick: a text of {text['tokens']} tokens: {text['pg_clip']:.2f} ms, ONNX Runtime alone {text['floor']:.2f} ms")
    print(f"bench-quick: a photo of 640 x 480: {image['pg_clip']:.2f} ms, ONNX Runtime alone {image['floor']:.2f} ms, "
          f"Pillow and ONNX Runtime {image['pillow_and_onnxruntime']:.2f} ms")
    print(f"bench-quick: a cached text: {repeated_text('emoji'):.1f} µs")


if __name__ == "__main__":
    main()
