#!/usr/bin/env python3
"""Writes clip_tokenizer_goldens.txt: the merges of CLIP's vocabulary that some thousand texts need, and the ids that the
reference tokenizers give to these texts.

Made with Python 3.11, open_clip_torch 3.3.0 (its vocabulary and SimpleTokenizer; torch is not needed), ftfy 6.3.1,
regex 2026.11.15, transformers 4.57.6 (CLIPTokenizerFast), tokenizers 0.22.2:
    python3 -m venv venv && venv/bin/pip install ftfy==6.3.1 regex==2026.11.15 transformers==4.57.6 tokenizers==0.22.2
    venv/bin/pip install --no-deps open_clip_torch==3.3.0 && venv/bin/python make_clip_tokenizer_goldens.py
The merges are from bpe_simple_vocab_16e6.txt of OpenAI's CLIP, copyright (c) 2021 OpenAI, MIT licence.

Ids are those of the reduced vocabulary: 256 byte symbols, 256 with </w>, the merges in their order, start, end. Lines:
    merge LEFT RIGHT
    piece HEX            bytes that the random texts are made of, perhaps no UTF-8 (Python decodes them with "replace")
    text HEX : ids of open_clip : ids of Hugging Face
    random CRC CRC       of the ids (int32, little-endian) of the next random text by either; - where ftfy repairs
                         mojibake, which gatefold does not
Random text number i (from 0) comes from the congruence that the test computes as well. All ids end at 77.
"""
import gzip
import importlib.util
import json
import pathlib
import sys
import tempfile
import types
import zlib

import ftfy
import numpy as np

SEPARATORS = [" ", " ", " ", " ", "", "", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000"]
WORDS = """a photo of the cat dog red t-shirt bad origami in video game tattoo it embroidered toy large small close-up
diagram painting sculpture graffiti plushie jpeg corrupted pixelated rendition blurry black white green striped
polka-dot dress ankle boot sneakers handbag golden retriever tabby tench goldfish hummingbird aircraft carrier
convertible espresso pizza strawberry cauliflower mountain seashore skyscraper volcano laptop keyboard umbrella
running jumping sleeping holding playing two people man woman child wearing sunglasses next to behind under bridge
street market sunset rain snow http www.example.com instagram selfie 2024 1080p iphone photography wallpaper hd
internationalization antidisestablishmentarianism supercalifragilisticexpialidocious zzyzx qwrtp hmmmmm aaaaaaaaaaa
don't it's I'm WE'LL they've you're dog's can't he'd O'CLOCK 'S 's' '''s rock'n'roll l'homme THE Photo HELLO CamelCase
snake_case kebab-case C++ C# a.b.c user@example.com $5.99 50% #1 AT&T R&B 3.14 1,000,000 24/7 10x10 #hashtag @user""".split()
OTHERS = [
    "café", "cafe\u0301", "naïve", "Straße", "ẞ", "ß", "İstanbul", "ıI", "ŒUVRE", "Ångström", "A\u030a", "\u212b", "\u2126",
    "ο", "ΟΔΟΣ", "ΟΔΟΣ.", "Σ", "ΑΣ'Σ", "ΜΈΓΑΣ:α", "привет", "ПРИВЕТ", "мир", "שלום", "שָׁלוֹם", "مرحبا", "مَرْحَبًا", "हिन्दी", "क़",
    "ภาษาไทย", "தமிழ்", "日本語", "猫", "写真", "ひらがな", "カタカナ", "ｶﾀｶﾅ", "ｶﾞ", "한국어", "\u1112\u1161\u11ab", "中文",
    "一只猫的照片", "龘", "𠮷", "😀", "❤️", "👍🏽", "👨‍👩‍👧", "🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👗", "✓", "→", "©", "™", "°", "£", "€", "½", "²", "x²",
    "Ⅷ", "①", "٣", "１２", "ＬＯＵＤ", "ﬁne", "ﬂubberiﬁc", "ĳs", "ŉ", "ǅ", "ﬆ", "ſ", "'ſ", "’s", "it’s", "“quoted”", "‘x’", "„x‟",
    "…", "–", "—", "•", "\u0345", "a\u0345b", "e\u0301\u0327", "e\u0327\u0301", "\u0301", "q\u0307\u0323", "\u200b",
    "\u200d", "\u00ad", "\u2060", "\ufeff", "\ufffd", "\ufffc", "\u202e", "\u2028", "\u0000", "\u0007", "\u001b[31m",
    "\u001b[0;1mx", "\u001b", "\u007f", "\u0085", "\u0093x\u0094", "\u001c", "\u180e", "\u2003",
    "&amp;", "&lt;b&gt;", "<b>", "</b>", "<br/>", "&", "&;", "&#;", "&#x;", "&nbsp;", "&eacute;", "&eacute", "&EACUTE;",
    "&SZLIG;", "&NTILDE;", "&Ntilde;", "&nTILDE;", "&notit;", "this&not", "&amp;amp;", "&amp;lt;", "&amp;amp;amp;quot;",
    "&#39;", "&#39", "&#x27;s", "&#233;", "&#XE9;", "&#128;", "&#150;", "&#0;", "&#xD800;", "&#x110000;", "&#1;", "&#xFFFE;",
    "&#99999999999999999999;", "&hearts;", "&hearts", "&NotEqualTilde;", "&fjlig;", "&CounterClockwiseContourIntegral;",
    "&copy2024", "&COPY;", "&Copy;", "&times;", "&timesx", "&HEARTS;", "&FFLIG;", "&NAPOS;",
    "!", "?!", "...", "--", "_", "__", "/", "\\", "(", ")", "[]", "{}", "*", "^", "~", "`", "|", "<", ">", "=", "+", "\"", "'",
    "0", "7", "42", "007", "2nd", "1st", "3D", "4K",
]
INVALID = [b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
           b"ab\xe4cd", b"\xf0\x9f", b"\x93quoted\x94", b"\xe0\x80"]
PLAIN = [
    "a photo of a cat", "a diagram", "Hello World! 123", "it's a T-shirt/top.", "a photo of an ankle boot.",
    "a photo of a fox", "", " ", "!", "A  B\tC\n", "<|endoftext|> a cat", "<|startoftext|>", "snake_case_name", "don’t",
    "&lt;b&gt; &amp;amp; &eacute", "ΟΔΟΣ ὈΔΥΣΣΕΎΣ", "cafe\u0301", "日本の猫", "🐱 cat", "1234567890", "e" * 300,
    "a photo of a dog, " * 30, "1 " * 74 + "cat", "1 " * 75 + "cat", "1 " * 76 + "cat", "￥１００", "ﬁne ﬂuﬀy", "STRASSE STRAßE",
]
PIECES = [w.encode() for w in WORDS + OTHERS] + INVALID
RANDOM = 4000


class Congruence:
    def __init__(self, seed):
        self.state = seed

    def below(self, count):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return (self.state >> 16) % count


def random_text(i):
    rng, out = Congruence(i), b""
    for _ in range(60 + rng.below(40) if i % 16 == 15 else 1 + rng.below(12)):
        piece = PIECES[rng.below(len(PIECES))]
        form = rng.below(8)
        if form == 0:  # ASCII capitals
            piece = bytes(b - 32 if 97 <= b <= 122 else b for b in piece)
        out += piece + SEPARATORS[rng.below(len(SEPARATORS))].encode()
    return out


def load_open_clip():
    folder = pathlib.Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])
    module = types.ModuleType("open_clip_tokenizer")
    module.__file__ = str(folder / "tokenizer.py")
    sys.modules["torch"] = types.SimpleNamespace(LongTensor=None, Tensor=None)
    exec(compile((folder / "tokenizer.py").read_text(), module.__file__, "exec"), module.__dict__)
    del sys.modules["torch"]
    merges = gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")[1:49152 - 256 - 2 + 1]
    return module, [tuple(line.split()) for line in merges]


open_clip, all_merges = load_open_clip()
simple = open_clip._tokenizer
# Markers in a text are text, for gatefold.
simple.pat = open_clip.re.compile(simple.pat.pattern.split("|", 2)[2], open_clip.re.IGNORECASE)
start, end = simple.sot_token_id, simple.eot_token_id

from transformers import CLIPTokenizerFast  # noqa: E402 (after the stand-in for torch has gone)

with tempfile.TemporaryDirectory() as folder:
    words = list(simple.encoder)
    words[start], words[end] = "<|startoftext|>", "<|endoftext|>"
    vocab, merges = pathlib.Path(folder, "vocab.json"), pathlib.Path(folder, "merges.txt")
    vocab.write_text(json.dumps({word: i for i, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in all_merges) + "\n")
    fast = CLIPTokenizerFast(str(vocab), str(merges), model_max_length=77)

used = set()


def note_merges(piece):
    """Which merges the encoding of a piece (in byte characters) goes through."""
    word = list(piece[:-1]) + [piece[-1] + "</w>"]
    while len(word) > 1:
        best = min(zip(word, word[1:]), key=lambda pair: simple.bpe_ranks.get(pair, 1 << 30))
        if best not in simple.bpe_ranks:
            break
        used.add(simple.bpe_ranks[best])
        out, i = [], 0
        while i < len(word):
            pair = i + 1 < len(word) and (word[i], word[i + 1]) == best
            out.append(word[i] + word[i + 1] if pair else word[i])
            i += 2 if pair else 1
        word = out


def by_open_clip(text):
    if ftfy.fix_text(text) != ftfy.fix_text(text, fix_encoding=False):
        return None
    for piece in simple.pat.findall(simple.clean_fn(text)):
        note_merges("".join(simple.byte_encoder[b] for b in piece.encode()))
    ids = [start] + simple.encode(text) + [end]
    return ids if len(ids) <= 77 else ids[:76] + [end]


def by_hugging_face(text):
    backend = fast.backend_tokenizer
    for piece, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
        note_merges(piece)
    return fast(text, truncation=True, max_length=77, split_special_tokens=True).input_ids


spec = {"a photo of a cat": [320, 1125, 539, 320, 2368], "a diagram": [320, 22697]}
for text, ids in spec.items():  # published
    assert by_open_clip(text) == by_hugging_face(text) == [49406] + ids + [49407]

plain = [(text.encode(), by_open_clip(text), by_hugging_face(text)) for text in PLAIN]
drawn = [random_text(i).decode(errors="replace") for i in range(RANDOM)]
drawn = [(by_open_clip(text), by_hugging_face(text)) for text in drawn]

ranks = sorted(used)
reduced = {rank + 512: i + 512 for i, rank in enumerate(ranks)}
reduced |= {i: i for i in range(512)} | {start: len(ranks) + 512, end: len(ranks) + 513}


def shown(ids):
    return "-" if ids is None else " ".join(str(reduced[i]) for i in ids)


def checksum(ids):
    return "-" if ids is None else f"{zlib.crc32(np.array([reduced[i] for i in ids], '<i4').tobytes()):08x}"


lines = ["merge " + " ".join(all_merges[rank]) for rank in ranks]
lines += ["piece " + piece.hex() for piece in PIECES]
lines += [f"text {text.hex()} : {shown(a)} : {shown(b)}" for text, a, b in plain]
lines += [f"random {checksum(a)} {checksum(b)}" for a, b in drawn]
pathlib.Path(__file__).with_name("clip_tokenizer_goldens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
print(len(ranks), "merges,", len(drawn), "random texts,", sum(a is None for a, _ in drawn), "of them mojibake,",
      sum(len(b) == 77 for _, b in drawn), "cut")
