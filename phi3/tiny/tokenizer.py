"""The embedded Phi-3's tokenizer: byte-level BPE over the small world's text, Phi-3's special tokens and template."""
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT, END, ASSISTANT = "<|endoftext|>", "<|end|>", "<|assistant|>"
ROLE_TOKENS = (ASSISTANT, "<|placeholder1|>", "<|placeholder2|>", "<|placeholder3|>", "<|placeholder4|>",
               "<|system|>", END, "<|placeholder5|>", "<|placeholder6|>", "<|user|>")
# Phi-3's own template; TRL recognises it by its exact text, so every character counts.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# Each digit is a piece of its own, so that sums are learned digit by digit.
PIECES = r"\d| ?\p{L}+|'\p{L}+| ?[^\s\p{L}\d]+|\s"


def make_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `vocabulary` tokens in all, learned from the texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(ROLE_TOKENS) - 1, special_tokens=["<s>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    bpe.train_from_iterator(texts, trainer)
    bpe.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    bpe.add_special_tokens([AddedToken(token, rstrip=True, normalized=False, special=True) for token in ROLE_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token=END_OF_TEXT, pad_token=END_OF_TEXT, padding_side="left",
        model_max_length=context, clean_up_tokenization_spaces=False, chat_template=CHAT_TEMPLATE,
        model_input_names=["input_ids", "attention_mask"])


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(folder)


def conversation_tokens(tokenizer: PreTrainedTokenizerFast,
                        messages: Iterable[dict[str, str]]) -> tuple[list[int], list[bool]]:
    """A finished conversation's tokens as the template gives them, and which of them the model is trained to say.

    Trained are the assistant's words, the `<|end|>` behind them and the end of the text: what TRL's assistant-only loss
    trains as well.
    """
    parts, trained = [], []
    for message in messages:
        said = message["role"] == "assistant"
        parts += [f"<|{message['role']}|>\n", f"{message['content']}{END}\n"]
        trained += [False, said]
    encoded = tokenizer([*parts, END_OF_TEXT], add_special_tokens=False)["input_ids"]
    marks = [*trained, True]
    tokens = [token for part in encoded for token in part]
    return tokens, [mark for part, mark in zip(encoded, marks, strict=True) for _ in part]
