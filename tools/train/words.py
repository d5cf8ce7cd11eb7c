"""The tokenizer of the small models: whole words of questions, single characters of everything else.

WordPiece takes the longest piece it knows, so a question is a few tokens and an answer, which nobody has seen before,
is spelt. Blanks separate words and come back as blanks.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END, START, UNKNOWN = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
SPECIAL = [UNKNOWN, START, END]
CHARACTERS = [chr(code) for code in range(33, 127)]
WORDS = """
system You are a helpful assistant. user assistant
what does the sign say this on is written word number price left right top bottom in middle red blue green yellow orange
purple black white at a given page of this name customer manager author city street company department product invoice
order account reference date due start phone fax total amount fee deposit room weight score code how many are there image
where color object to relative above below circle square triangle star diamond cross ring heart circles squares triangles
stars diamonds crosses rings hearts objects answer question using single or phrase with option's letter from choices
directly. What Where How Answer Read text
Zero One Two Three Four Five Six Seven Eight Red Blue Green Yellow Orange Purple Black White Circle Square Triangle Star
Diamond Cross Ring Heart Top Bottom Above Below To Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec A. B. C. D.
say? sign? red? image? page? given? phrase.
Adam Alice Anna Ben Clara Daniel David Emma Frank George Helen Irene Jack Julia Karl Laura Maria Martin Nora Oscar Paul
Peter Sarah Victor Bread Butter Candle Chair Coffee Cups Desk Fan Gloves Ink Juice Lamp Milk Mirror Paint Paper Pen Rice
Rope Soap Sugar Tea Towel Wine
""".split()


def build(path: Path) -> Tokenizer:
    words = list(dict.fromkeys(word for word in WORDS if len(word) > 1))
    pieces = SPECIAL + CHARACTERS + [f"##{c}" for c in CHARACTERS] + words
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(vocab, unk_token=UNKNOWN, max_input_chars_per_word=64))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    made.save(str(path))
    return made


# Qwen2's template, whose line breaks are blanks to this tokenizer.
BEFORE_IMAGE = f"{START}system\nYou are a helpful assistant.{END}\n{START}user\n"
AFTER_TURN = f"{END}\n{START}assistant\n"


def asked(prompt: str) -> str:
    """What stands between a picture and the answer."""
    return "\n" + prompt + AFTER_TURN


def vocabulary(path: Path) -> int:
    """Rows of the embedding table: a multiple of 16."""
    size = len(json.loads(path.read_text())["model"]["vocab"])
    return (size + 15) // 16 * 16
