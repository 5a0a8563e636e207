"""Writes the model directory from finished trainings. Usage: export.py WORKDIR MODEL_DIRECTORY."""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tokenizer import END, START
from towers import CONTEXT_LENGTH, DIMENSIONS, IMAGE_HEADS, IMAGE_LAYERS, IMAGE_SIZE, IMAGE_WIDTH, MEAN, STD
from towers import TEXT_HEADS, TEXT_LAYERS, TEXT_WIDTH, ImageTower, TextTower
from train_text import LOG_SCALE

OPSET = 17


def write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def main(workdir: Path, folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(workdir / "tokenizer.json"))
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    text, image = TextTower(tokenizer.get_vocab_size(), end).eval(), ImageTower().eval()
    text.load_state_dict(torch.load(workdir / "text.pt"))
    image.load_state_dict(torch.load(workdir / "image.pt"))
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    ids = torch.tensor([[start, 5, 6, 7, end], [start, 8, end, end, end]])
    rows = {0: "text_batch_size", 1: "sequence_length"}
    torch.onnx.export(
        text, (ids, torch.ones_like(ids)), folder / "onnx/text_model.onnx", opset_version=OPSET, dynamo=False,
        input_names=["input_ids", "attention_mask"], output_names=["text_embeds"],
        dynamic_axes={"input_ids": rows, "attention_mask": rows, "text_embeds": {0: "text_batch_size"}})
    torch.onnx.export(
        image, (torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE),), folder / "onnx/vision_model.onnx",
        opset_version=OPSET, dynamo=False, input_names=["pixel_values"], output_names=["image_embeds"],
        dynamic_axes={"pixel_values": {0: "image_batch_size"}, "image_embeds": {0: "image_batch_size"}})

    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write(folder / "tokenizer_config.json", {
        "bos_token": START, "eos_token": END, "pad_token": END,
        "model_max_length": CONTEXT_LENGTH, "tokenizer_class": "CLIPTokenizer"})
    write(folder / "config.json", {
        "model_type": "clip", "projection_dim": DIMENSIONS, "logit_scale_init_value": LOG_SCALE,
        "text_config": {
            "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": CONTEXT_LENGTH,
            "hidden_size": TEXT_WIDTH, "num_hidden_layers": TEXT_LAYERS, "num_attention_heads": TEXT_HEADS,
            "bos_token_id": start, "eos_token_id": end, "pad_token_id": end},
        "vision_config": {
            "image_size": IMAGE_SIZE, "hidden_size": IMAGE_WIDTH, "num_hidden_layers": IMAGE_LAYERS,
            "num_attention_heads": IMAGE_HEADS}})
    write(folder / "preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIZE}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
