#!/usr/bin/env python3
"""Makes tests/fixtures/text/tokenizer*: small tokenizers of every kind in use, and what transformers makes of texts.

    python tools/make_tokenizers.py [--data DIR]

Ran with tokenizers 0.23.3, transformers 5.23.0, sentencepiece 0.2.3 (Python 3.11). Each tokenizer is trained on the
sentences below, so a second run gives the same vocabulary. The expected ids and texts are AutoTokenizer's on the folder
that is committed; where nothing but tokenizer.json speaks they are checked against plain `tokenizers` first.
With --data (a folder with gsm8k, hh-harmless and tokenizers) the two real tokenizers are recorded too: ids of the texts
below, and hashes of the ids of all rows. None of that data is written here.
"""

import argparse
import gzip
import io
import json
import os
import random
import shutil
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "true"
import sentencepiece  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors, trainers  # noqa: E402
from tokenizers import pre_tokenizers as pre  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "text")

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
QWEN = GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

CORPUS = [
    "The tokenizer cuts a text into pieces, and the pieces into tokens; nothing is lost on the way back.",
    "Don't you think they'll say we're late? I've seen it, he'd know, she's sure, I'm not. DON'T! We'LL see.",
    "In 2024 there were 1,234,567 of them, 3.14159 of those, and 42% more than in 1999.",
    "Natalia sold clips to 48 friends in April, and then half as many in May. How many did she sell? 48/2 = 24.",
    "def encode(text):\n    return [vocab[t] for t in text.split()]\n\n\nif __name__ == '__main__':\n\tprint(encode('a b'))",
    "Größe, façade, naïve, coöperate, Ångström, smørrebrød, señor, žluťoučký kůň, İstanbul, ΑΒΓ αβγ, Привет, мир!",
    "今天天气很好，我们去公园吧。東京は日本の首都です。カタカナとひらがな。안녕하세요 세계.",
    "שלום עולם. مرحبا بالعالم. नमस्ते दुनिया. สวัสดีชาวโลก. გამარჯობა მსოფლიო.",
    "tokens tokens tokenizer tokenization text texts pieces piece back backward way away lost last list",
    "The quick brown fox jumps over the lazy dog. the THE The tHe. hello world Hello World HELLO WORLD",
] * 8

TEXTS = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", " \n ", "a", " a", "a ", "  a  b  ", "\ta\n b\r\nc",
    "Hello world", " Hello world ", "hello   world", "Hello\n\nworld\n", "   leading and trailing   ",
    "x = 1\n    y = 2\n\tz = 3\n\n\n    return x  \n", "line one \nline two  \n  line three\r\nline four\r\n\r\n",
    "don't DON'T we'll WE'LL I'm I'M they've he'd 's 't 're 've 'm 'll 'd ''s \u2019s it\u2019s",
    "'\u017f is a long s, K\u212a is Kelvin", "12345678901234567890", "1 22 333 4444 55555", "3.14159, 1,234,567 and 42%",
    "\u0661\u0662\u0663 \u2167 \u00bd \u2461 \u00b2", "a1b2c3 a12b34", "$100.00 #hashtag @user http://example.org/a?b=c&d=e#f",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "...!!!???", "Hello, world! (really?) [yes] {no} <maybe>", "a,b;c:d.e!f?g",
    "-- --- ---- _ __ ___", "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "e\u0301 \u00e9 e\u0301\u0323 a\u030a \u00c5 \u212b \ufb01 \u2126 \u1e9b\u0323", "\u0301 alone, x\u0301\u0302\u0303\u0304",
    "\u00c4\u00d6\u00dc \u00df \u1e9e \u0130 \u0131 \u01c5 \u03a3\u03c2", "\U0001d504\U0001d51f \uff21\uff22\uff23 \uff11\uff12",
    "\U0001f600 \U0001f602\U0001f602\U0001f602", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family",
    "\U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7 1\ufe0f\u20e3 \u2764\ufe0f", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u202babc\u202c \u200fx\u200e", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u5427\u3002", "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002\u30ab\u30bf\u30ab\u30ca", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "English\u4e2d\u6587\u0420\u0443\u0441\u0441\u043a\u0438\u0439\u03b5\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac123\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0401\u0436\u0438\u043a", "\u0391\u0392\u0393 \u03b1\u03b2\u03b3",
    "\u00a0nbsp\u00a0\u00a0x", "\u3000ideographic\u3000space", "\u2003em\u2009thin\u200bzero\u2028line\u2029para\u0085nel\u180emvs",
    "\u1680ogham \u202f\u205f", "\ufeffbom \ufeff", "\ufffd \ufffd\ufffd", "\uffff \ufdd0 \U0001ffff \U0010ffff", "\ue000 \U000f0000",
    "\u0000null\u0000", "\u0001\u0002\u0003\u0007\u0008\u000b\u000c\u000e\u001b\u001f\u007f\u0080\u009f", "a\u00adb soft",
    "a" * 50, "ab" * 40, " " * 70 + "x", "\n" * 20, "the" * 60, "=" * 80, "na\u00efve" * 20, "\u4e2d" * 30, "the tokenizer text " * 30,
    "<s>", "</s>", "<s>hello</s>", " <s> hello </s> ", "a<s>b</s>c", "<s><s></s></s>", "<|endoftext|>", "hello<|endoftext|>world",
    "hello <|endoftext|> world", "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n", "<|im_start|><|im_start", "<|im_",
    "[INST] hi [/INST] yes</s>", "<start_of_turn>user\nhi<end_of_turn>\n", "[CLS] a [SEP] b [MASK] c [UNK]", "the <mask> way", "the   <mask>   way",
    "<pad><unk>", "\u2581under\u2581score \u2581", "\u0120hello \u010a", "<0x41><0x0A>", "##ing", "WORD word Word", "swordfish word, word. (word)",
    "left   right", "  left  ", "x right   y", "LEFT right", "Stra\u00dfe WORD\u00c4 \u00c4word", "caf\u00e9 CAF\u00c9 cafe\u0301",
    "<extra_0> a<extra_0>b", "The quick brown fox jumps over the lazy dog. the THE The tHe.",
    "def encode(text):\n    return [vocab[t] for t in text.split()]\n\n\nif __name__ == '__main__':\n\tprint(encode('a b'))",
    "Mixed \u4e2d\u6587 and \U0001f600 and 123\r\n\r\n  and\ttabs   \n\n end.  ",
]


def byte_level(tok, size=420, specials=(), prefix=""):
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials), show_progress=False,
                                                        initial_alphabet=pre.ByteLevel.alphabet()))
    tok.decoder = decoders.ByteLevel()
    return tok


def bpe_split(pattern, size=500, specials=(), more=(), normalizer=None):
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre.Sequence([*more, pre.Split(Regex(pattern), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    return byte_level(tok, size, specials)


def gpt2():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    byte_level(tok, 420, ["<|endoftext|>"])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return tok, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def roberta():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre.ByteLevel(add_prefix_space=True)
    byte_level(tok, 420, ["<s>", "<pad>", "</s>", "<unk>"])
    tok.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tok, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}


def llama3():
    tok = bpe_split(GPT4)
    doc = json.loads(tok.to_str())
    doc["model"]["ignore_merges"] = True
    # A whole word that the merges do not build: only ignore_merges finds it.
    doc["model"]["vocab"]["\u0120tokenizations"] = len(doc["model"]["vocab"])
    tok = Tokenizer.from_str(json.dumps(doc))
    tok.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"])
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                                      special_tokens=[("<|begin_of_text|>", tok.token_to_id("<|begin_of_text|>"))])])
    return tok, {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


def qwen2():
    tok = bpe_split(QWEN, normalizer=normalizers.NFC())
    tok.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("caf\u00e9", normalized=True)])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return tok, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "add_prefix_space": False}


def o200k():
    return bpe_split(O200K, specials=["<|endoftext|>"]), {"eos_token": "<|endoftext|>"}


def deepseek():
    splits = [pre.Split(Regex(r"\p{N}{1,3}"), "isolated"), pre.Split(Regex("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), "isolated")]
    tok = bpe_split(DEEPSEEK, specials=["<s>", "</s>"], more=splits)
    return tok, {"bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False},
                 "eos_token": "</s>", "add_bos_token": True, "tokenizer_class": "LlamaTokenizerFast"}


def smollm():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    byte_level(tok, 420, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tok, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


def fallback_bpe(specials, fuse=True, unk="<unk>"):
    """A BPE with byte fallback, made as SentencePiece's are: specials, 256 bytes, then characters and merges."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre.Metaspace()
    tok.train_from_iterator([t for t in CORPUS if t.isascii()], trainers.BpeTrainer(vocab_size=300, show_progress=False))
    doc = json.loads(tok.to_str())["model"]
    tokens = [*specials, *(f"<0x{b:02X}>" for b in range(256)), *sorted(doc["vocab"], key=doc["vocab"].get)]
    vocab = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
    return models.BPE(vocab=vocab, merges=[tuple(m) for m in doc["merges"]], unk_token=unk, fuse_unk=fuse, byte_fallback=True)


def llama2_file():
    tok = Tokenizer(fallback_bpe(["<unk>", "<s>", "</s>"]))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tok


def llama2():
    return llama2_file(), {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def llama2_class():
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer", "legacy": False,
              "add_bos_token": True, "add_eos_token": True}
    return llama2_file(), config


def llama2_legacy():
    config = {"bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False},
              "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None, "tokenizer_class": "LlamaTokenizerFast", "legacy": True,
              "additional_special_tokens": ["[INST]", "[/INST]"],
              "added_tokens_decoder": {
                  str(i): {"content": c, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
                  for i, c in enumerate(["<unk>", "<s>", "</s>"])}}
    return llama2_file(), config


def mistral():
    tok = Tokenizer(fallback_bpe(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]))
    tok.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tok, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer", "model_type": "mistral"}


def gemma():
    tok = Tokenizer(fallback_bpe(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n\n", "\n\n\n"]))
    tok.normalizer = normalizers.Replace(" ", "\u2581")
    tok.pre_tokenizer = pre.Split(" ", "merged_with_previous")
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    tok.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("\n\n\n", normalized=False)])
    tok.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    tok.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)])
    return tok, {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}


def fields(message):
    """The (number, payload) pairs of a protocol buffer message: enough to take a SentencePiece model apart."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, message[at:at + size]
            at += size


def sentencepiece_unigram(**options):
    """Pieces with scores, and the compiled character map, of a freshly trained SentencePiece model."""
    import struct
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(line for t in CORPUS for line in t.split("\n") if line), model_writer=model,
                                             model_type="unigram", num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    pieces, charsmap = [], b""
    for number, payload in fields(model.getvalue()):
        if number == 1:
            piece = dict(fields(payload))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0]))
        elif number == 3:
            charsmap = dict(fields(payload)).get(2, b"")
    return pieces, charsmap


def t5():
    pieces, charsmap = sentencepiece_unigram(vocab_size=420, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                                             character_coverage=0.98)
    tok = Tokenizer(models.Unigram([*pieces, ("<extra_0>", 0.0)], unk_id=2))
    tok.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Strip(left=False, right=True),
                                           normalizers.Replace(Regex(" {2,}"), "\u2581")])
    tok.pre_tokenizer = pre.Metaspace()
    tok.decoder = decoders.Metaspace()
    tok.add_special_tokens(["<pad>", "</s>", "<unk>", "<extra_0>"])
    tok.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return tok, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def unigram_bytes():
    pieces, _ = sentencepiece_unigram(vocab_size=620, byte_fallback=True, normalization_rule_name="identity", character_coverage=0.98)
    tok = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tok.pre_tokenizer = pre.Metaspace(prepend_scheme="first")
    tok.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tok, {"eos_token": "</s>", "unk_token": "<unk>"}


def bert(lowercase):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=None)
    tok.pre_tokenizer = pre.BertPreTokenizer()
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
                                                              show_progress=False))
    tok.decoder = decoders.WordPiece()
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tok, {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def word_level():
    tok = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tok.pre_tokenizer = pre.Whitespace()
    tok.train_from_iterator(CORPUS, trainers.WordLevelTrainer(vocab_size=150, special_tokens=["<unk>", "<pad>"], show_progress=False))
    return tok, {"unk_token": "<unk>", "pad_token": "<pad>"}


def clip():
    """Suffixed byte-level words: lower case, a Split that removes what does not match, `</w>`."""
    tok = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tok.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tok.pre_tokenizer = pre.Sequence([
        pre.Split(Regex(r"<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
        pre.ByteLevel(add_prefix_space=False)])
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=["<|endoftext|>"], end_of_word_suffix="</w>", show_progress=False))
    tok.decoder = decoders.BPEDecoder(suffix="</w>")
    return tok, {"eos_token": "<|endoftext|>"}


def prefixed():
    """A character BPE with `##`, unknowns one by one, and the less usual pre-tokenisers."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
    tok.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Replace("\u0301", "")])
    tok.pre_tokenizer = pre.Sequence([pre.CharDelimiterSplit(" "), pre.Punctuation("merged_with_previous"), pre.Digits(),
                                      pre.Split(Regex(r"[A-Za-z&&[^aeiou]]\b|[[:space:]]"), "merged_with_next"), pre.Split("qu", "contiguous")])
    tok.train_from_iterator([t for t in CORPUS if t.isascii()], trainers.BpeTrainer(vocab_size=250, special_tokens=["<unk>"], continuing_subword_prefix="##", show_progress=False))
    tok.decoder = decoders.WordPiece(cleanup=False)
    return tok, {"unk_token": "<unk>"}


def flags():
    """Added tokens with every flag, over a lower-casing normaliser, and a fused unknown."""
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tok.normalizer = normalizers.Lowercase()
    tok.pre_tokenizer = pre.Sequence([pre.WhitespaceSplit(), pre.Split(Regex(r"\w+(?=[^\w\s])|\h+$"), "isolated"), pre.FixedLength(7)])
    tok.train_from_iterator([t for t in CORPUS if t.isascii()], trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False))
    tok.add_tokens([AddedToken("word", single_word=True, normalized=False), AddedToken("left", lstrip=True, normalized=True),
                    AddedToken("right", rstrip=True, normalized=False), AddedToken("CAF\u00c9", normalized=True),
                    AddedToken("strasse", single_word=True, normalized=True)])
    tok.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True), "<s>"])
    config = {"unk_token": "<unk>", "image_token": "</s>", "added_tokens_decoder": {
        str(tok.token_to_id("word")): {"content": "word", "lstrip": True, "normalized": False, "rstrip": False, "single_word": True, "special": False},
        "900": {"content": "<pad>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}}}
    return tok, config


MAKERS = {
    "gpt2": gpt2, "roberta": roberta, "llama3": llama3, "qwen2": qwen2, "o200k": o200k, "deepseek": deepseek, "smollm": smollm, "llama2": llama2,
    "llama2_class": llama2_class, "llama2_legacy": llama2_legacy, "mistral": mistral, "gemma": gemma, "t5": t5, "unigram_bytes": unigram_bytes,
    "bert_uncased": lambda: bert(True), "bert_cased": lambda: bert(False), "word_level": word_level, "clip": clip, "prefixed": prefixed, "flags": flags,
}
FROM_CONFIG = {"llama2_class", "llama2_legacy", "flags"}  # where more than tokenizer.json decides


def write_gzip(path, document):
    with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def expected(tok, texts, rng, size):
    """What `tok` makes of the texts, and of random ids."""
    plain = [tok(t, add_special_tokens=False).input_ids for t in texts]
    special = [tok(t, add_special_tokens=True).input_ids for t in texts]
    rows = [*special, *([rng.randrange(size) for _ in range(rng.randrange(1, 24))] for _ in range(60))]
    return {"ids": plain, "special_ids": special, "rows": rows[len(special):],
            "decoded": [tok.decode(r, skip_special_tokens=False, clean_up_tokenization_spaces=False) for r in rows],
            "skipped": [tok.decode(r, skip_special_tokens=True, clean_up_tokenization_spaces=False) for r in rows]}


def make_small(rng):
    out = {}
    for name, maker in MAKERS.items():
        tok, config = maker()
        config = dict(config)
        model_type = config.pop("model_type", None)
        config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
        config["clean_up_tokenization_spaces"] = False
        folder = os.path.join(OUT, f"tokenizer_{name}")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        if model_type:
            with open(os.path.join(folder, "config.json"), "w") as file:
                json.dump({"model_type": model_type}, file)
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
            json.dump(config, file, ensure_ascii=False, indent=1)
        write_gzip(os.path.join(folder, "tokenizer.json.gz"), json.loads(tok.to_str()))
        with tempfile.TemporaryDirectory() as work:
            shutil.copytree(folder, work, dirs_exist_ok=True)
            tok.save(os.path.join(work, "tokenizer.json"))
            auto = AutoTokenizer.from_pretrained(work)
        case = expected(auto, TEXTS, rng, len(auto))
        if name not in FROM_CONFIG:
            plain = [tok.encode(t, add_special_tokens=False).ids for t in TEXTS]
            assert plain == case["ids"], name
        case["size"] = max(auto.get_vocab().values()) + 1
        case["named"] = {n: [getattr(auto, n), getattr(auto, n + "_id")] for n in ("bos_token", "eos_token", "pad_token", "unk_token")}
        out[name] = case
        print(name, case["size"], type(auto).__name__)
    return out


def hash_ids(rows):
    """FNV-1a over whole ids, a row ended by 2^32 - 1."""
    value = 0xCBF29CE484222325
    for row in rows:
        for one in (*row, 0xFFFFFFFF):
            value = (value ^ one) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def make_real(data):
    def rows(*path):
        file = os.path.join(data, *path)
        with (gzip.open(file, "rt") if file.endswith("gz") else open(file)) as lines:
            return [json.loads(line) for line in lines]
    gsm = [r["question"] + "\n" + r["answer"] for r in rows("gsm8k", "train.jsonl")]
    hh = [r[key] for r in rows("hh-harmless", "test.jsonl.gz") for key in ("chosen", "rejected")]
    out = {}
    for name in ("qwen3", "deepseek_v3"):
        with gzip.open(os.path.join(data, "tokenizers", name, "tokenizer.json.gz"), "rt") as file:
            tok = Tokenizer.from_str(file.read())
        encode = lambda texts: [e.ids for e in tok.encode_batch(texts, add_special_tokens=False)]  # noqa: E731
        ids = encode(TEXTS)
        out[name] = {"ids": ids, "decoded": [tok.decode(r, skip_special_tokens=False) for r in ids],
                     "gsm8k": hash_ids(encode(gsm)), "hh": hash_ids(encode(hh))}
        print(name, out[name]["gsm8k"], out[name]["hh"])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    args = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    cases = os.path.join(OUT, "tokenizer_cases.json.gz")
    real = make_real(args.data) if args.data else None
    if real is None and os.path.exists(cases):
        with gzip.open(cases, "rt") as file:
            real = json.load(file)["real"]
    write_gzip(cases, {"texts": TEXTS, "small": make_small(random.Random(7)), "real": real})


if __name__ == "__main__":
    main()
