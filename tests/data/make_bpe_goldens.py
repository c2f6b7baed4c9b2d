#!/usr/bin/env python3
"""Writes bpe_goldens.txt: two tiny byte-level BPE models, trained here, and the ids that Hugging Face's `tokenizers`
gives to some texts.

Made with Python 3 and tokenizers 0.23.3:
    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3 && venv/bin/python make_bpe_goldens.py

Ids are laid out as in CLIP's vocabulary: byte symbols by code point, then (clip only) the same with </w>, then the
merges' results in order. Lines: `model NAME`, `merge LEFT RIGHT`, `text HEX-OF-UTF-8 : ID ID ...`.
"""
import json
import pathlib
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "a red t-shirt with white stripes", "a blue shirt and a blue skirt", "striped socks, 2 pairs of socks",
    "it's a dress; they're dresses and we'll dress them", "the shirts are red and the skirts aren't",
    "a photo of a red dress with 10 white buttons", "ein rotes Kleid mit weißen Streifen", "une chemise rayée à carreaux",
] * 4
TEXTS = [
    "a photo of a red striped shirt", "  two   spaces, and a tail  ", "It's THEIR shirts; we'll DRESS'D", "'s'S''s 'tis",
    "10 socks 2024 x½ Ⅷ", "weiße Strümpfe, rayée à carreaux", "line\none\n\n  two\tthree \n", "衬衫 рубашка ΟΔΟΣ שמלה",
    "👗👕🏽 red!!! (new)", "İstanbul ıI K", "कमीज़ लाल", "a\u00a0b\u2003c\u0085d", "under_score & co. <|endoftext|> </w>",
    "\0\x01\x7f", "ssssssssssss", "",
]
CLIP_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def tokenizer(name, model):
    tok = Tokenizer(model)
    if name == "clip":
        tok.normalizer = normalizers.Lowercase()
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
    else:
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tok


lines = []
for name, suffix in (("gpt2", ""), ("clip", "</w>")):
    options = {"end_of_word_suffix": suffix} if suffix else {}
    trained = tokenizer(name, models.BPE(**options))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), key=ord)
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=len(alphabet) + 120, initial_alphabet=alphabet, show_progress=False, **options))
    merges = [tuple(m) for m in json.loads(trained.to_str())["model"]["merges"]]
    tokens = alphabet + ([a + suffix for a in alphabet] if suffix else []) + [left + right for left, right in merges]
    assert len(set(tokens)) == len(tokens)
    vocab = {token: i for i, token in enumerate(tokens)}
    tok = tokenizer(name, models.BPE(vocab, merges, **options))
    lines.append(f"model {name}")
    lines += [f"merge {left} {right}" for left, right in merges]
    lines += [f"text {text.encode().hex()} : {' '.join(map(str, tok.encode(text).ids))}" for text in TEXTS]
pathlib.Path(__file__).with_name("bpe_goldens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
