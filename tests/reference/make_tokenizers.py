"""Two small tokenizers and what the reference libraries make of 2,000 texts with them.

    make_tokenizers.py [--out DIR]    writes everything (default: fixtures/tokenizers beside this file)
    make_tokenizers.py --check        tokenizes the texts of the fixtures again and compares; 1: they differ

    bart/tokenizer.json      byte-level BPE by the tokenizers library: BART's specials at BART's ids, tokens as
                             Florence-2 adds them, and some with every flag an added token can have
    gemma/tokenizer.model    SentencePiece BPE by the sentencepiece library, with Gemma's settings and specials
    texts.jsonl              [text, ids by bart, ids by gemma]; bytes that are not UTF-8 as {"hex": ...}: the
                             libraries get them through Python's decode(errors="replace")
    decoded.jsonl            [0 bart | 1 gemma, ids, text], ids drawn at random
    cut.jsonl                [text, max, prompt ids and label ids as Florenz' training cuts them, ids cut by
                             transformers with its own truncation]

Ids are without bos and eos but for cut.jsonl. The texts are made here, from words and rules below.
"""
import argparse
import io
import json
import pathlib
import random
import sys

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
N_TEXTS, N_DECODED, SEED = 2000, 200, 2503

# One tuple a language: who, does, whom, where. Every combination is a sentence.
WORDS = {
    "en": (["A woman in a red coat", "The old fisherman", "Two children", "A brown dog", "The tall waiter", "Nobody",
            "A group of tourists", "The cyclist's friend"],
           ["is holding", "doesn't see", "carries", "looks at", "has just painted", "can't lift", "would've bought", "sells"],
           ["a yellow umbrella", "twelve oranges", "the broken guitar", "some fresh bread", "a map of the town",
            "an enormous balloon", "three wooden chairs", "the neighbours' cat"],
           ["beside the river", "in front of a church", "under the bridge", "on a crowded market", "at night",
            "near the harbour", "behind the glass door", "before the storm"]),
    "de": (["Eine Frau im roten Mantel", "Der alte Fischer", "Zwei Kinder", "Ein brauner Hund", "Der große Kellner",
            "Niemand", "Eine Reisegruppe", "Die Freundin des Radfahrers"],
           ["hält", "trägt", "verkauft", "sucht", "bemalt", "betrachtet", "fotografiert", "versteckt"],
           ["einen gelben Regenschirm", "zwölf Äpfel", "die kaputte Gitarre", "frische Brötchen", "einen Stadtplan",
            "einen riesigen Luftballon", "drei Holzstühle", "die Katze der Nachbarn"],
           ["neben dem Fluss", "vor einer Kirche", "unter der Brücke", "auf dem überfüllten Markt", "in der Nacht",
            "am Hafen", "hinter der Glastür", "kurz vor dem Gewitter"]),
    "fr": (["Une femme au manteau rouge", "Le vieux pêcheur", "Deux enfants", "Un chien brun", "Le grand serveur",
            "L'amie du cycliste", "Un groupe de touristes", "Quelqu'un"],
           ["tient", "porte", "vend", "cherche", "a peint", "regarde", "n'aime pas", "cache"],
           ["un parapluie jaune", "douze oranges", "la guitare cassée", "du pain frais", "un plan de la ville",
            "un énorme ballon", "trois chaises en bois", "le chat des voisins"],
           ["au bord de la rivière", "devant une église", "sous le pont", "au marché", "pendant la nuit", "près du port",
            "derrière la porte vitrée", "avant l'orage"]),
    "es": (["Una mujer con abrigo rojo", "El viejo pescador", "Dos niños", "Un perro marrón", "El camarero alto",
            "Nadie", "Un grupo de turistas", "La amiga del ciclista"],
           ["sostiene", "lleva", "vende", "busca", "ha pintado", "mira", "no encuentra", "esconde"],
           ["un paraguas amarillo", "doce naranjas", "la guitarra rota", "pan recién hecho", "un mapa de la ciudad",
            "un globo enorme", "tres sillas de madera", "el gato de los vecinos"],
           ["junto al río", "delante de una iglesia", "bajo el puente", "en el mercado", "por la noche",
            "cerca del puerto", "detrás de la puerta", "antes de la tormenta"]),
    "ru": (["Женщина в красном пальто", "Старый рыбак", "Двое детей", "Коричневая собака", "Высокий официант", "Никто",
            "Группа туристов", "Подруга велосипедиста"],
           ["держит", "несёт", "продаёт", "ищет", "рисует", "видит", "не любит", "прячет"],
           ["жёлтый зонт", "двенадцать апельсинов", "сломанную гитару", "свежий хлеб", "карту города",
            "огромный шар", "три деревянных стула", "соседскую кошку"],
           ["у реки", "перед церковью", "под мостом", "на рынке", "ночью", "возле порта", "за стеклянной дверью",
            "перед грозой"]),
    "zh": (["穿红色大衣的女人", "老渔夫", "两个孩子", "一只棕色的狗", "高个子服务员", "没有人", "一群游客", "骑车人的朋友"],
           ["拿着", "带着", "出售", "寻找", "画了", "看着", "不喜欢", "藏起"],
           ["一把黄色的雨伞", "十二个橙子", "坏了的吉他", "新鲜的面包", "一张城市地图", "一个巨大的气球", "三把木椅",
            "邻居的猫"],
           ["在河边", "在教堂前面", "在桥下", "在市场上", "在夜里", "在港口附近", "在玻璃门后面", "在暴风雨之前"]),
}
ENDS = {"zh": "。！？"}
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ", "\u00a0", "\u3000", "\u2003", "\u2009", "\u200b", "\u180e",
          "\u1680", "\u202f", "\u205f", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c", "\x1f", " " * 17, "\t\t \t"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👨🏿‍🚀", "🇩🇪🇫🇷", "❤️", "☺", "🧑🏻‍🤝‍🧑🏿", "1️⃣", "🐈‍⬛", "🫠", "©️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
MARKS = ["e\u0301", "n\u0303o", "a\u0308\u0304", "Z̷̧̛a̶l̸g̵o̴", "\u0301 alone", "ö and o\u0308", "षि", "กำ", "한국어", "각", "بِسْمِ",
         "שָׁלוֹם", "ﬁ ﬂ", "Å Å", "İi ıI", "ǅ ǆ"]
DIGITS = ["0", "7", "42", "3.14159", "1,000,000", "2026-11-23", "+49 30 1234567", "10%", "$9.99", "№5", "½ ¾", "x²+y³", "①②③",
          "٣٤٥", "१२३", "Ⅻ", "1e-5", "007", "12345678901234567890", "〇一二三", "𝟘𝟙𝟚", "5th", "24x7"]
CONTRACTIONS = ["I'm", "you're", "we've", "they'll", "she'd", "it's", "don't", "o'clock", "'tis", "rock'n'roll", "I’m", "don’t",
                "'S 'T 'RE", "'s't're've'm'll'd", "y'all'd've", "its'", "' s", "''ll", "dogs' tails", "l'eau d'été"]
PUNCTUATION = ["...", "?!", "—", "«guillemets»", "„deutsch“", "¿qué?", "“quoted”", "(a)[b]{c}", "a/b\\c", "#tag @user", "<>&\"'", "!!!",
               "、。「」", "·•§¶", "~^`|", "a_b__c", "e.g.", "C++", "→ ⇒ ∑ ∫ √", "\u00ad\u200d\ufeff", "﹏", "…", "\x01\x02\x7f", "\ufffd"]
RARE = ["\u1c89\u1c8a", "\ua7cb", "\U00010d40\U00010d4a", "\U00031350\U000323af", "\U0002ebf0", "\U0001e4f0\U0001e4d0", "\U0001ccf0",
        "\U00016d40", "\U0010ffff", "\ue000", "ꙮ", "𓀀𓂀", "𐍈", "ᚠᛇᚻ", "ߊߋ", "𞤀𞤁", "\U000116d0", "\U0001d7ff"]
# Letters, numbers and marks of Unicode 15 and 16: first and last of ranges that older tables lack.
LATER = [0x897, 0xcf3, 0x1c89, 0xa7cb, 0xa7dc, 0x105c0, 0x105f3, 0x10d40, 0x10d49, 0x10d4a, 0x10d69, 0x10d85, 0x10ec2, 0x1123f, 0x11241, 0x11380,
         0x113b5, 0x113d1, 0x113e2, 0x116d0, 0x116e3, 0x11bc0, 0x11bf9, 0x11f02, 0x11f33, 0x11f50, 0x1342f, 0x13446, 0x13455, 0x13460,
         0x143fa, 0x16100, 0x16130, 0x16d40, 0x16d70, 0x18cff, 0x1b132, 0x1b155, 0x1ccf0, 0x1d2c0, 0x1d2d3, 0x1df25, 0x1e030, 0x1e08f,
         0x1e4d0, 0x1e4f9, 0x1e5d0, 0x1e5ee, 0x1e5f1, 0x2b739, 0x2ebf0, 0x2ee5d, 0x31350, 0x323af]
FLORENCE = (["<od>", "</od>", "<ocr>", "</ocr>"] + [f"<loc_{i}>" for i in range(100)] +
            ["<cap>", "</cap>", "<ncap>", "</ncap>", "<dcap>", "</dcap>", "<grounding>", "</grounding>", "<seg>", "</seg>", "<sep>",
             "<region_cap>", "</region_cap>", "<region_to_desciption>", "</region_to_desciption>", "<proposal>", "</proposal>",
             "<poly>", "</poly>", "<and>"])
FLAGGED = [AddedToken("<right>", rstrip=True, special=True), AddedToken("<both>", lstrip=True, rstrip=True, special=True),
           AddedToken("harbour", single_word=True, normalized=False), AddedToken("fish", normalized=True),
           AddedToken("fisherman<late>", normalized=True), AddedToken("<late>", normalized=False),
           AddedToken("Größe", single_word=True, normalized=True), AddedToken("橙子", normalized=False)]
SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", " <mask> ", "<od>", "<loc_0>", "<loc_17>", "<loc_99>", "<loc_100>", "<loc_1", "</poly>",
            "<right>  ", "  <both>\t\n", "<LATE>", "<late>", "harbour", "harbourmaster", "xharbour", "harbour\u0301", "_harbour",
            "harbour.harbour", "fish", "fisherman<late>", "starfish", "Größe", "Größen", "橙子", "<bos>", "<eos>", "<start_of_turn>",
            "<unused3>", "<table>", "</s", "<<s>>", "<s><s>", "▁", "▁▁the", "<0x0A>", "<0xE2>", "Ġthe", "ĊĊ"]


def sentence(rng, language=None):
    language = language or rng.choice(list(WORDS))
    gap = "" if language == "zh" else " "
    return gap.join(rng.choice(part) for part in WORDS[language]) + rng.choice(ENDS.get(language, ".!?"))


def corpus():
    rng = random.Random(SEED)
    for i in range(6000):
        yield sentence(rng, list(WORDS)[i % 6])
        if i % 12 == 0:
            yield " ".join(rng.choice(DIGITS + CONTRACTIONS + PUNCTUATION + EMOJI) for _ in range(6))
        if i % 40 == 0:
            yield "  " + sentence(rng) + "\n\n\t" + sentence(rng).upper()


def make_bart(path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)] +
                                 [AddedToken(name, special=True, normalized=False) for name in FLORENCE])
    tokenizer.add_tokens(FLAGGED)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    path.write_text(compact + "\n", encoding="utf-8")


def make_gemma(path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(list(corpus())), model_writer=model, model_type="bpe", vocab_size=2000, byte_fallback=True,
        character_coverage=1.0, add_dummy_prefix=False, remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, normalization_rule_name="identity", pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>", num_threads=1, minloglevel=2,
        user_defined_symbols=["<mask>"] + [f"<unused{i}>" for i in range(8)] + ["<start_of_turn>", "<end_of_turn>"] +
        ["\n" * i for i in range(1, 5)] + ["▁" * i for i in range(2, 9)] + ["<table>", "</table>"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())


def damage(rng, data):
    """Bytes that are not UTF-8: stray, cut, overlong, surrogates, beyond U+10FFFF."""
    wrong = [b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xfe\xff", b"\xe0\x80\x80",
             b"\xf8\x88\x80\x80\x80", b"\xe2\x28\xa1", b"\xf0\x28\x8c\x28"]
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(data))
        if rng.random() < 0.5 and len(data) > 2:
            del data[at:at + 1]
        else:
            data[at:at] = rng.choice(wrong)
    return bytes(data)


def texts():
    rng = random.Random(SEED + 1)
    out = ["", " ", "\n", "a", "'", "<", "é", "中", "😀", "  a", "a  ", "a  b", "a \n b", "   \t"]
    out += SPACES + EMOJI + MARKS + DIGITS + CONTRACTIONS + PUNCTUATION + RARE + SPECIALS
    out += [f"a{chr(code)}1{chr(code)}!{chr(code)}harbour" for code in LATER]
    out += [f"The target language is {name}. Translate the following text: {sentence(rng, 'en')}"
            for name in ("English", "German", "French", "Spanish", "simplified Chinese", "Russian")]
    out += ["What does the image describe?", "Describe in detail what is shown in the image.",
            "Describe with a paragraph what is shown in the image.", "The image shows", "Das Bild zeigt", "La photo montre",
            "La imagen muestra", "На картинке изображен", "图为"]
    out += ["a" * 3000, " " * 1500, "ab" * 700, "的" * 900, "1" * 400, "".join(sentence(rng) + " " for _ in range(60)), "!?" * 300]
    out += [sentence(rng, language) for language in WORDS for _ in range(60)]
    everything = [SPACES, EMOJI, MARKS, DIGITS, CONTRACTIONS, PUNCTUATION, RARE, SPECIALS]
    while len(out) < N_TEXTS - 200:
        parts = []
        for _ in range(rng.randint(2, 7)):
            parts.append(rng.choice(rng.choice(everything)) if rng.random() < 0.6
                         else " ".join(sentence(rng).split(" ")[:rng.randint(1, 4)]))
            parts.append(rng.choice(["", "", " ", rng.choice(SPACES)]))
        out.append("".join(parts))
    out = [text.encode("utf-8") for text in out]
    while len(out) < N_TEXTS:
        out.append(damage(rng, (sentence(rng) + rng.choice(EMOJI + MARKS + SPECIALS)).encode("utf-8")[:rng.randint(0, 60)]))
    return out


def pack(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"hex": data.hex()}


def unpack(text):
    return bytes.fromhex(text["hex"]) if isinstance(text, dict) else text.encode("utf-8")


class Both:
    """The two references, as the libraries have them."""

    def __init__(self, folder):
        self.bart = Tokenizer.from_file(str(folder / "bart/tokenizer.json"))
        self.wrapped = PreTrainedTokenizerFast(tokenizer_file=str(folder / "bart/tokenizer.json"), bos_token="<s>", eos_token="</s>",
                                               pad_token="<pad>", unk_token="<unk>", truncation_side="right")
        self.gemma = sentencepiece.SentencePieceProcessor(model_file=str(folder / "gemma/tokenizer.model"))

    def ids(self, data):
        text = data.decode("utf-8", errors="replace")
        return [self.bart.encode(text, add_special_tokens=False).ids, self.gemma.encode(text)]

    def text(self, which, ids):
        text = self.gemma.decode(ids) if which else self.bart.decode(ids, skip_special_tokens=True)
        return text.replace("\0", "\ufffd")  # C's texts end at a NUL

    def cut(self, text, most):
        """Training: the library cuts at 447 and 1024, specials kept; then the end beyond `most` falls off."""
        prompt = self.wrapped(text, truncation=True, max_length=447)["input_ids"][:most]
        labels = ([2] + self.gemma.encode(text)[:1022] + [1])[:most]
        return [prompt, labels, self.wrapped(text, truncation=True, max_length=most)["input_ids"]]


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def make(folder):
    """Byte for byte the same again with the same versions of the libraries."""
    make_bart(folder / "bart/tokenizer.json")
    make_gemma(folder / "gemma/tokenizer.model")
    both, rng = Both(folder), random.Random(SEED + 2)
    write(folder / "texts.jsonl", ([pack(data)] + both.ids(data) for data in texts()))
    rows = []
    for i in range(N_DECODED):
        size = [both.bart.get_vocab_size(), both.gemma.get_piece_size()][i % 2]
        ids = [rng.randrange(size if rng.random() < 0.5 else 300) for _ in range(rng.randint(1, 12))]
        rows.append([i % 2, ids, both.text(i % 2, ids)])
    write(folder / "decoded.jsonl", rows)
    lines = [sentence(rng) for _ in range(12)] + ["", "a", " ".join(sentence(rng) for _ in range(12))]
    write(folder / "cut.jsonl", ([text, most] + both.cut(text, most) for text in lines for most in (4, 9, 16, 128)))


def check(folder):
    both, wrong = Both(folder), 0
    for data, line in zip(texts(), open(folder / "texts.jsonl", encoding="utf-8"), strict=True):
        text, *ids = json.loads(line)
        wrong += unpack(text) != data or both.ids(data) != ids
    for line in open(folder / "decoded.jsonl", encoding="utf-8"):
        which, ids, text = json.loads(line)
        wrong += both.text(which, ids) != text
    for line in open(folder / "cut.jsonl", encoding="utf-8"):
        text, most, *ids = json.loads(line)
        wrong += both.cut(text, most) != ids
    print(f"{wrong} lines differ from what the libraries say")
    return wrong == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "fixtures/tokenizers")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit(0 if check(arguments.out) else 1)
    make(arguments.out)
