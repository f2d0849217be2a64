"""Trains nano's byte-level BPE tokenizer and writes the checkpoint's text-side files.

Deterministic: the corpus is drawn from fixed seeds, and nothing depends on time or threads.
Run it before train.py; a new tokenizer needs a new training run.
"""

import json

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import scenes
from nano import CHECKPOINT, SPECIAL

# How Qwen's tokenizers split text before the merges.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def corpus():
    """Questions and answers of the first 20,000 training scenes, and 2,000 text-only rows."""
    for seed in range(20_000):
        s, rng = scenes.scene(seed)
        yield from scenes.question(s, rng)
    for seed in range(2_000):
        yield from scenes.text_only(scenes.SplitMix64(seed))
    for question in scenes.CAPTION_QUESTIONS:
        yield question
    for role in ("system", "user", "assistant"):
        for _ in range(1_000):
            yield role + "\n"


def write_json(name, value):
    text = json.dumps(value, indent=2, ensure_ascii=False)
    (CHECKPOINT / name).write_text(text + "\n", encoding="utf-8")


def main():
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tok.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False)
    first_special = min(SPECIAL.values())
    trainer = trainers.BpeTrainer(
        vocab_size=first_special, min_frequency=1, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tok.train_from_iterator(corpus(), trainer)
    if tok.get_vocab_size() != first_special:
        raise SystemExit(f"the corpus gives {tok.get_vocab_size()} tokens, {first_special} are needed")
    tok.add_special_tokens(list(SPECIAL))
    for token, number in SPECIAL.items():
        if tok.token_to_id(token) != number:
            raise SystemExit(f"{token} has id {tok.token_to_id(token)}, expected {number}")

    tok.save(str(CHECKPOINT / "tokenizer.json"))
    model = json.loads(tok.to_str())["model"]
    (CHECKPOINT / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n", encoding="utf-8")
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    (CHECKPOINT / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (CHECKPOINT / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")

    def flags(content):
        return dict(content=content, lstrip=False, normalized=False, rstrip=False, single_word=False)

    write_json("tokenizer_config.json", {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): flags(t) | {"special": True} for t, i in SPECIAL.items()},
        "additional_special_tokens": [t for t in SPECIAL if t != "<|endoftext|>"],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    })
    write_json("special_tokens_map.json", {
        "additional_special_tokens": [t for t in SPECIAL if t != "<|endoftext|>"],
        "eos_token": flags("<|im_end|>"),
        "pad_token": flags("<|endoftext|>"),
    })
    write_json("generation_config.json", {
        "do_sample": False,
        "eos_token_id": SPECIAL["<|im_end|>"],
        "pad_token_id": SPECIAL["<|endoftext|>"],
    })
    write_json("preprocessor_config.json", {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "image_std": [0.5, 0.5, 0.5],
        "merge_size": 2,
        "patch_size": 16,
        "processor_class": "Qwen3VLProcessor",
        "rescale_factor": 0.00392156862745098,
        "resample": 3,
        "size": {"longest_edge": 16384, "shortest_edge": 16384},
        "temporal_patch_size": 2,
    })


if __name__ == "__main__":
    main()
