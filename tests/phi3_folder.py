"""Makes a folder laid out as a public Phi-3 repository: sharded random weights, `auto_map` in the config."""

from pathlib import Path

from benchmarks.card.base import name_remote_code

CONTROL_TOKENS = ("<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|system|>", "<|end|>", "<|user|>")
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + "
    "'<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def byte_tokenizer(rstrip: bool = True, llama: bool = False):
    """A tokenizer of single bytes with Phi-3's control tokens; `llama` normalises as SentencePiece's export does."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if llama:
        vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}}
        vocabulary |= {letter: 257 + place for place, letter in enumerate("▁abcdefghijklmnopqrstuvwxyzHW")}
        core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                          decoders.Strip(" ", 1, 0)])
    else:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        core = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False,
                                        rstrip=rstrip and token != "<|endoftext|>") for token in CONTROL_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
                                   chat_template=TEMPLATE)


def make_phi3_folder(folder: Path, **shape: int) -> Path:
    """Random weights (std 0.02, seeded) of any Phi-3 shape, in at least two shards."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    tokenizer = byte_tokenizer()
    usual = {"vocab_size": 288, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512,
             "sliding_window": 255}
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|assistant|>", "<|end|>")]
    config = Phi3Config(**{**usual, **shape}, bos_token_id=None, eos_token_id=ends[0], pad_token_id=ends[0])
    torch.manual_seed(0)
    model = Phi3ForCausalLM(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder, max_shard_size="150KB")
    tokenizer.save_pretrained(folder)
    name_remote_code(folder)
    return folder
