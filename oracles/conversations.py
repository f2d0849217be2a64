"""Records what transformers makes of nano's conversations: several pictures, several turns, text between.

    python conversations.py nano/conversations

No CI job runs this; it needs what capture.py needs. It writes

    conversations.json   the conversations: turns with role, text and names of pictures in nano/scenes
    NAME.safetensors     input_ids i32 [T], position_ids i32 [3, T], logits f32 [T, V], margins f32 [T]
    prompts.json         prompts of all kinds with one picture or none, and the ids that transformers gives

of the whole conversation with what would begin an answer, in one call without a past, in fp32.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np

import torch
from capture import Oracle, tensors

HERE = Path(__file__).resolve().parent
ASK = "what is in the image ?"


def user(text, *pictures):
    return {"role": "user", "text": text, "pictures": list(pictures)}


def model(text):
    return {"role": "assistant", "text": text, "pictures": []}


def conversations():
    """Conversations by name. Answers are those of nano/scenes/scenes.json."""
    scenes = json.loads((HERE / "nano/scenes/scenes.json").read_text())["prompts"]
    answer = {scene["image"]: scene["answer"] for scene in scenes if "image" in scene}
    one, two, three = "scene-1.png", "scene-2.png", "scene-3.png"
    return {
        "one": [user(ASK, one)],
        "two-at-once": [user("what are the shapes ?", one, two)],
        "second-turn": [user(ASK, one), model(answer[one]), user("what colour is it ?")],
        "second-picture": [user(ASK, one), model(answer[one]), user(ASK, two)],
        "three": [user(ASK, one), model(answer[one]), user("and now ?", two, three), model("a red circle ."), user(ASK)],
        "late": [user("count from one to twenty ."), model("one two three four five"), user(ASK, three)],
        "system": [{"role": "system", "text": "answer in one word .", "pictures": []}, user(ASK, two)],
        "text": [user("count from one to twenty .")],
    }


def prompts():
    """200 texts with or without a picture and a system prompt, in many scripts."""
    rng = random.Random(13)
    words = [
        "what", "is", "in", "the", "image", "?", "Was", "zeigt", "das", "Bild", "¿Qué", "ves", "画像には", "何が", "写って",
        "图片里", "有什么", "Что", "на", "картинке", "ما", "هذا", "चित्र", "में", "क्या", "है", "🙂", "<b>", "{{ x }}", "{% if %}",
        "\\n", "a_b", "1234567", "C++", "—", "…", "  two  spaces", "tab\there", "new\nline", "'quoted'", '"double"', "&amp;",
    ]
    for number in range(200):
        text = " ".join(rng.choice(words) for _ in range(rng.randint(1, 12)))
        if number % 10 == 9:
            text = rng.choice(["", " ", "\n", "\nstarts with a newline", "ends with a newline\n", "<|im_end|>"[1:]])
        yield {
            "text": text,
            "picture": number % 4 != 3,
            "system": rng.choice([None, None, "answer in one word .", "Antworte auf Deutsch."]),
        }


def tokens(oracle, turns):
    """Ids of a conversation, with the pads of pictures written out."""
    messages = [
        {
            "role": turn["role"],
            "content": [{"type": "image"}] * len(turn["pictures"]) + [{"type": "text", "text": turn["text"]}],
        }
        for turn in turns
    ]
    text = oracle.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    pad = oracle.tokenizer.convert_ids_to_tokens(oracle.config.image_token_id)
    count = sum(len(turn["pictures"]) for turn in turns)
    assert text.count(pad) == count, (text, count)
    return oracle.tokenizer(text.replace(pad, pad * oracle.grid**2), add_special_tokens=False)["input_ids"]


def forward(oracle, turns):
    ids = tokens(oracle, turns)
    row = torch.tensor([ids])
    given = dict(input_ids=row, attention_mask=torch.ones_like(row))
    pictures = [HERE / "nano/scenes" / name for turn in turns for name in turn["pictures"]]
    if pictures:
        pixels = np.concatenate([oracle.patches(picture)[0] for picture in pictures])
        given |= dict(pixel_values=torch.from_numpy(pixels), image_grid_thw=torch.tensor([oracle.thw()] * len(pictures)))
        # Version 5 of transformers takes this, too.
        given["mm_token_type_ids"] = (row == oracle.config.image_token_id).int()
    seen = {}

    def keep(_, args, kwargs):
        seen["positions"] = (kwargs["position_ids"] if "position_ids" in kwargs else args[1]).clone()

    hook = oracle.model.model.language_model.rotary_emb.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        logits = oracle.model(**given).logits[0].numpy()
    except TypeError:
        del given["mm_token_type_ids"]
        logits = oracle.model(**given).logits[0].numpy()
    hook.remove()
    top = np.sort(logits, -1)[:, -2:]
    return {
        "input_ids": np.array(ids, np.int32),
        "position_ids": seen["positions"].reshape(3, -1).int().numpy(),
        "logits": logits,
        "margins": (top[:, 1] - top[:, 0]).astype(np.float32),
    }


def main(out):
    torch.set_grad_enabled(False)
    oracle = Oracle(HERE / "nano/checkpoint", None, 4)
    out.mkdir(parents=True, exist_ok=True)
    talks = conversations()
    for name, turns in talks.items():
        tensors.save(out / f"{name}.safetensors", forward(oracle, turns))
    index = [{"name": name, "turns": turns} for name, turns in talks.items()]
    (out / "conversations.json").write_text(json.dumps(index, indent=2) + "\n")
    asked = []
    for prompt in prompts():
        system = [{"role": "system", "text": prompt["system"], "pictures": []}] * (prompt["system"] is not None)
        turns = system + [user(prompt["text"], *["scene-1.png"] * prompt["picture"])]
        asked.append(prompt | {"ids": tokens(oracle, turns)})
    lines = ",\n".join(json.dumps(prompt) for prompt in asked)
    (out / "prompts.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
