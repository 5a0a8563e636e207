"""The tokenizer: CLIP's pipeline with our own vocabulary."""

import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# Large enough for most everyday words as one token, and small enough for the megabytes that the encoders leave. The bytes that
# end no text of the training are added to it.
VOCABULARY = 8000
WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_SPLIT = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def learn(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CLIP_SPLIT), "removed", invert=True), pre_tokenizers.ByteLevel(False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, end_of_word_suffix=WORD_END, show_progress=False,
        special_tokens=[START, END])
    tokenizer.train_from_iterator(texts, trainer)
    # A byte at the end of a word is another token than a byte inside a word. With both tokens of all bytes, any text can be
    # encoded. For a missing one, the end-of-text token would appear in the middle of the text.
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for letter in alphabet:
        vocabulary.setdefault(letter + WORD_END, len(vocabulary))
    tokenizer = Tokenizer.from_str(json.dumps(content))
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.RobertaProcessing((END, end), (START, start), False)
    return tokenizer
