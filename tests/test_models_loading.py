"""Loading: every kind of model gives its tokens by stream, and what cannot be had is said in a sentence."""

import sys

import numpy as np
import pytest
import torch
import transformers

from attnviz.errors import InputError, MissingExtraError, ModelError
from attnviz.models import generating, load, transformers_mixed
from attnviz.models.transformers_mixed import LlavaLike, TwoTowers
from attnviz.models.transformers_seq2seq import EncoderDecoder
from attnviz.models.transformers_text import TextModel
from attnviz.pipeline.prepare import Prepared, token_table
from attnviz.types import ModelSpec, Record
from tests import tiny
from tests.tiny import SPEC

TEXT, PAIR = tiny.SENTENCES[3], tiny.SENTENCES[1]


def record(text=TEXT, pair=None, image=None):
    return Record("data.csv:2", text, pair, image)


def photo(size=20):
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    return lambda: pixels


def incremental(watched, steps):
    """Run ``steps`` one after another and return, by attention, the queries and keys of all of them in order."""
    seen: dict[int, list] = {}
    real = torch.nn.functional.scaled_dot_product_attention
    count = 0

    def spy(query, key, *arguments, **options):
        nonlocal count
        seen.setdefault(count % watched, []).append((query, key))
        count += 1
        return real(query, key, *arguments, **options)

    torch.nn.functional.scaled_dot_product_attention = spy
    try:
        with torch.inference_mode():
            for step in steps:
                step()
    finally:
        torch.nn.functional.scaled_dot_product_attention = real
    return {number: (torch.cat([query for query, _ in calls], dim=2), calls[-1][1]) for number, calls in seen.items()}


# Encoder-decoders


def own_shift(head, labels):
    """What the model itself makes of labels."""
    if hasattr(head, "prepare_decoder_input_ids_from_labels"):
        return head.prepare_decoder_input_ids_from_labels(labels=labels)
    shift = sys.modules[type(head).__module__].shift_tokens_right
    return shift(labels, head.config.pad_token_id, head.config.decoder_start_token_id)


@pytest.mark.parametrize("family", tiny.SEQ2SEQ_CONFIGS)
def test_decoder_reads_what_it_is_taught_to_say(family):
    head = tiny.seq2seq_head(family)
    model = EncoderDecoder(tiny.seq2seq_base(family), tiny.tokenizer(), SPEC)
    sequence = model.encode(record(pair=PAIR))
    labels = tiny.tokenizer()(text_target=PAIR, return_tensors="pt")["input_ids"]
    own = own_shift(head, labels)[0]
    read = sequence.streams["encoder"]
    assert sequence.input_ids[read:].tolist() == own.tolist()
    assert sequence.input_ids[:read].tolist() == tiny.tokenizer()(TEXT)["input_ids"]
    assert list(sequence.streams) == ["encoder", "decoder"]
    assert sum(sequence.streams.values()) == len(sequence) == len(sequence.texts)
    assert sequence.is_special[read]
    assert not sequence.segment.any()


@pytest.mark.parametrize("family", tiny.SEQ2SEQ_CONFIGS)
def test_padding_changes_nothing_of_an_encoder_decoder(family):
    model = EncoderDecoder(tiny.seq2seq_base(family), tiny.tokenizer(), SPEC)
    records = [record(TEXT, PAIR), record(PAIR, TEXT), record(tiny.SENTENCES[2], TEXT)]
    sequences = [model.encode(item) for item in records]
    batch = model.collate(sequences)
    assert batch.inputs["input_ids"].shape[1] != batch.inputs["decoder_input_ids"].shape[1]
    together = model.forward(batch)
    for row, sequence in enumerate(sequences):
        alone = model.forward(model.collate([sequence]))
        held = sequence.streams["decoder"]
        torch.testing.assert_close(together[row, :held], alone[0, :held], atol=2e-5, rtol=1e-4)


def test_streams_of_one_length_are_padded_apart():
    model = EncoderDecoder(tiny.seq2seq_base("t5"), tiny.tokenizer(), SPEC)
    batch = model.collate([model.encode(record(PAIR, PAIR))])
    assert batch.lengths == {"encoder": (6,), "decoder": (6,)}
    assert batch.inputs["decoder_input_ids"].shape[1] == batch.inputs["input_ids"].shape[1] + 1


def test_longest_streams_still_fit_the_model():
    model = EncoderDecoder(tiny.seq2seq_base("bart"), tiny.tokenizer(), SPEC)
    sequence = model.encode(record("cat " * 80, "dog " * 80))
    assert sequence.streams == {"encoder": 64, "decoder": 63}
    assert sequence.truncated
    assert model.forward(model.collate([sequence])).shape[1] == 63
    short = model.encode(record("cat " * 61, "dog " * 80))
    assert model.forward(model.collate([short])).shape[1] == 64  # one of padding, for the encoder has 63 too


def test_encoder_decoder_without_a_target_says_what_to_give():
    model = EncoderDecoder(tiny.seq2seq_base("bart"), tiny.tokenizer(), SPEC)
    with pytest.raises(InputError, match=r"data\.csv:2 has no second text.*data\.pair_column.*capture\.generate"):
        model.encode(record())


@pytest.mark.parametrize("family", tiny.SEQ2SEQ_CONFIGS)
def test_encoder_decoder_reads_what_it_writes(family):
    head = tiny.seq2seq_head(family)
    model = EncoderDecoder(head, tiny.tokenizer(), SPEC, generate=6)
    sequence = model.encode(record())
    first = sequence.streams["encoder"]
    begin = generating.begins_with(head)
    assert sequence.input_ids[first : first + len(begin)].tolist() == begin
    assert sequence.is_generated.tolist() == [n >= first + len(begin) for n in range(len(sequence))]
    assert 0 < sequence.is_generated.sum() <= 6
    batch = model.collate([sequence])
    with torch.no_grad():
        logits = head(**batch.inputs, use_cache=False).logits[0].clone()
    logits[:, generating._never(head)] = -torch.inf
    said = sequence.input_ids[first:]
    for place in range(len(begin), len(said)):
        assert int(logits[place - 1].argmax()) == said[place]


def test_last_hidden_state_is_the_same_with_and_without_head():
    head, base = tiny.seq2seq_head("t5"), tiny.seq2seq_base("t5")
    written = EncoderDecoder(head, tiny.tokenizer(), SPEC, generate=3)
    base.load_state_dict(head.state_dict(), strict=False)
    plain = EncoderDecoder(base, tiny.tokenizer(), SPEC)
    batch = plain.collate([plain.encode(record(pair=PAIR))])
    torch.testing.assert_close(written.forward(batch), plain.forward(batch))


def test_encoder_decoder_comes_from_a_folder(tmp_path):
    tiny.seq2seq_head("t5").save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    spec = ModelSpec(str(tmp_path), device="cpu")
    assert load(spec).info.architecture == "T5Model"
    assert load(spec, generate=2).encode(record()).is_generated.sum() in (1, 2)


# Generation


def written_by(family, count, **more):
    head = tiny.causal_head(family)
    return TextModel(head.base_model, tiny.tokenizer(), SPEC, head=head, generate=count, **more), head


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2"])
def test_model_goes_on_greedily(family):
    model, head = written_by(family, 8)
    sequence = model.encode(record())
    prompt = len(tiny.tokenizer()(TEXT)["input_ids"])
    assert sequence.is_generated.tolist() == [False] * prompt + [True] * (len(sequence) - prompt)
    assert len(sequence.texts) == len(sequence.patch_row) == len(sequence.segment) == len(sequence.is_special)
    with torch.inference_mode():
        logits = head(input_ids=torch.tensor(sequence.input_ids[None].astype(np.int64))).logits[0]
    assert logits[prompt - 1 : -1].argmax(-1).tolist() == sequence.input_ids[prompt:].tolist()


def test_model_stops_at_its_end_of_text():
    model, head = written_by("llama", 8)
    said = model.encode(record()).input_ids[-8:].tolist()
    head.generation_config.eos_token_id = [said[2]]
    assert model.encode(record()).input_ids.tolist()[-3:] == said[: said.index(said[2]) + 1][-3:]


def test_vectors_of_one_pass_are_those_of_decoding_step_by_step():
    model, head = written_by("llama", 12)
    sequence = model.encode(record())
    ids = torch.tensor(sequence.input_ids[None].astype(np.int64))
    prompt = int((~sequence.is_generated).sum())
    whole = incremental(2, [lambda: model.forward(model.collate([sequence]))])
    cache = transformers.DynamicCache(config=head.config)

    def step(start, stop):
        return lambda: head(input_ids=ids[:, start:stop], past_key_values=cache, use_cache=True)

    stepwise = incremental(2, [step(0, prompt), *(step(n, n + 1) for n in range(prompt, len(sequence)))])
    assert len(whole) == len(stepwise) == 2
    for layer in whole:
        for once, again in zip(whole[layer], stepwise[layer], strict=True):
            assert once.shape == again.shape
            assert float((once - again).abs().max()) <= 1e-5


def test_prompt_leaves_room_for_what_follows():
    model, _ = written_by("llama", 60)
    sequence = model.encode(record(tiny.SENTENCES[0]))
    assert sequence.truncated
    assert (~sequence.is_generated).sum() == 4
    with pytest.raises(ModelError, match=r"capture\.generate = 64 leaves no room for a prompt.*64 tokens"):
        written_by("llama", 64)


def test_model_that_reads_both_ways_cannot_write(tmp_path):
    config = tiny.TEXT_CONFIGS["bert"]()
    tiny.module(config, transformers.AutoModelForMaskedLM).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"cannot write text: .*both directions.*capture\.generate = 0"):
        load(ModelSpec(str(tmp_path), device="cpu"), generate=3)


def test_model_without_any_head_cannot_write(tmp_path):
    tiny.save_text_model(tmp_path, "albert")
    with pytest.raises(ModelError, match=r"albert models have no language-model head.*give a decoder"):
        load(ModelSpec(str(tmp_path), device="cpu"), generate=3)


def test_vision_model_cannot_write(tmp_path):
    with pytest.raises(ModelError, match=r"reads images, and capture\.generate = 3 is for models of text alone"):
        load(ModelSpec(str(tiny.save_timm_model(tmp_path)), device="cpu"), generate=3)


# Tables


def test_token_table_says_stream_modality_and_what_was_generated():
    written = EncoderDecoder(tiny.seq2seq_head("t5"), tiny.tokenizer(), SPEC, generate=3)
    sequences = [written.encode(record()), written.encode(record(TEXT, PAIR))]
    table = token_table(Prepared(tuple(sequences), {})).to_pydict()
    lengths = [count for sequence in sequences for count in sequence.streams.values()]
    assert table["position"] == [place for count in lengths for place in range(count)]
    assert table["stream"] == [
        name for n, count in enumerate(lengths) for name in [("encoder", "decoder")[n % 2]] * count
    ]
    assert set(table["modality"]) == {"text"}
    assert table["is_generated"] == [*sequences[0].is_generated.tolist(), *[False] * len(sequences[1])]


def test_token_table_of_image_and_text():
    both = token_table(Prepared((tiny.two_towers("clip").encode(record(image=photo())),), {})).to_pydict()
    assert both["modality"] == ["image" if name == "vision" else "text" for name in both["stream"]]
    image = token_table(Prepared((tiny.timm_vit().encode(record(text=None, image=photo())),), {})).to_pydict()
    assert set(image["modality"]) == {"image"}
    assert set(image["stream"]) == {""}
    assert image["position"] == list(range(17))


# Image and text


def test_two_towers_give_two_streams():
    model = tiny.two_towers("clip")
    sequence = model.encode(record(image=photo()))
    text = len(tiny.tokenizer()(TEXT)["input_ids"])
    assert sequence.streams == {"text": text, "vision": 17}
    assert sequence.is_image.tolist() == [False] * text + [True] * 17
    assert sequence.texts[text] == "[CLS]"
    assert sequence.patch_row[text + 1 :].tolist() == np.repeat(range(4), 4).tolist()
    assert model.picture(sequence).shape == (16, 16, 3)
    assert model.info.modality == "text+image"
    alone = model.forward(model.collate([sequence]))
    both = model.forward(model.collate([sequence, model.encode(record(tiny.SENTENCES[0], image=photo()))]))
    assert both.shape[:2] == (2, 2)
    torch.testing.assert_close(alone[0], both[0], atol=1e-5, rtol=1e-4)


def test_text_is_never_padded_to_the_length_of_the_image():
    model = tiny.two_towers("clip")
    words = " ".join(["cat"] * 15)
    batch = model.collate([model.encode(record(words, image=photo()))])
    assert batch.lengths == {"text": (17,), "vision": (17,)}
    assert batch.inputs["input_ids"].shape[1] == 18


def test_siglip_reads_its_padding_as_it_was_trained():
    sequence = tiny.two_towers("siglip").encode(record(image=photo()))
    assert sequence.streams == {"text": 24, "vision": 16}
    assert sequence.texts[23] == "[PAD]"
    assert sequence.is_special[23]


@pytest.mark.parametrize("strategy", ["default", "full"])
def test_llava_reads_patches_among_its_words(strategy):
    model = tiny.two_towers("llava", vision_feature_select_strategy=strategy)
    sequence = model.encode(record("the cat <image> sat", image=photo()))
    kept = 16 + (strategy == "full")
    assert sequence.streams == {"vision": 17, "language": kept + 5}
    language = slice(17, None)
    assert sequence.is_image[language].tolist() == [False] * 3 + [True] * kept + [False] * 2
    assert sequence.patch_row[language].tolist()[3:-2] == sequence.patch_row[17 - kept : 17].tolist()
    assert sequence.texts[language][:3] == ("[CLS]", "the", "cat")
    assert model.forward(model.collate([sequence])).shape[:2] == (1, kept + 5)


def test_padding_changes_nothing_of_llava():
    model = tiny.two_towers("llava")
    sequences = [model.encode(record(text, image=photo(n))) for n, text in enumerate(tiny.SENTENCES[:3], 20)]
    together = model.forward(model.collate(sequences))
    for row, sequence in enumerate(sequences):
        held = sequence.streams["language"]
        alone = model.forward(model.collate([sequence]))
        torch.testing.assert_close(together[row, :held], alone[0, :held], atol=2e-5, rtol=1e-4)


def test_llava_puts_the_image_first_and_keeps_it_whole():
    model = tiny.two_towers("llava")
    assert model.encode(record("the cat", image=photo())).is_image[17:].tolist()[1:17] == [True] * 16
    with pytest.raises(InputError, match=r"10 tokens do not hold the 16 of its image.*data\.max_length"):
        model.encode(record("the cat", image=photo()), max_length=10)
    with pytest.raises(InputError, match="2 times <image>, but one image"):
        model.encode(record("<image> the <image>", image=photo()))


@pytest.mark.parametrize("given", [{"text": None, "image": photo()}, {"text": TEXT}])
def test_models_of_both_ask_for_both(given):
    with pytest.raises(InputError, match=r"alone, but tiny/clip reads both.*data\.image_column"):
        tiny.two_towers("clip").encode(record(**given))


@pytest.mark.parametrize(("made", "kind"), [("clip", TwoTowers), ("siglip", TwoTowers), ("llava", LlavaLike)])
def test_models_of_both_come_from_a_folder(made, kind, tmp_path):
    model = tiny.two_towers(made)
    model.module.save_pretrained(tmp_path)
    tiny.mixed_processor(made).save_pretrained(tmp_path)
    loaded = load(ModelSpec(str(tmp_path), device="cpu"))
    assert type(loaded) is kind
    sequences = [made.encode(record(image=photo())) for made in (model, loaded)]
    outputs = [made.forward(made.collate([one])) for made, one in zip((model, loaded), sequences, strict=True)]
    torch.testing.assert_close(*outputs)
    assert transformers_mixed.reads_both(loaded.module.config)


@pytest.mark.parametrize("made", ["clip", "siglip", "llava"])
def test_inputs_are_those_of_the_models_own_processor(made):
    model = tiny.two_towers(made)
    text = "the cat <image> sat" if made == "llava" else TEXT
    more = {"padding": "max_length", "max_length": 24} if made == "siglip" else {}
    own = tiny.mixed_processor(made)(text=text, images=photo()(), return_tensors="pt", **more)
    ours = model.collate([model.encode(record(text, image=photo()))]).inputs
    assert ours["input_ids"].tolist() == own["input_ids"].tolist()
    torch.testing.assert_close(ours["pixel_values"], own["pixel_values"])


# Precision and placement


@pytest.mark.parametrize("saved", ["float32", "bfloat16", "float16"])
def test_dtype_can_be_the_checkpoints_own(saved, tmp_path):
    tiny.save_text_model(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).to(getattr(torch, saved))
    model.save_pretrained(tmp_path)
    assert load(ModelSpec(str(tmp_path), dtype="auto", device="cpu")).info.dtype == saved
    assert load(ModelSpec(str(tmp_path), device="cpu")).info.dtype == "float32"


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    folder = str(tiny.save_text_model(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"model\.device_map needs accelerate.*pip install accelerate"):
        load(ModelSpec(folder, device_map="auto"))
    with pytest.raises(ModelError, match=r"model\.quantize = '4bit' needs a CUDA GPU.*bfloat16"):
        load(ModelSpec(folder, quantize="4bit", device="cpu"))
    with pytest.raises(ModelError, match=r"Both model\.device = 'cpu' and model\.device_map = 'auto'.*Keep one"):
        load(ModelSpec(folder, device="cpu", device_map="auto"))


@pytest.mark.parametrize("option", [{"device_map": "auto"}, {"quantize": "8bit"}])
def test_what_timm_cannot_do_is_refused(option, tmp_path):
    with pytest.raises(ModelError, match=r"is a timm model, and model\.\w+ = '\w+' is for models of transformers"):
        load(ModelSpec(str(tiny.save_timm_model(tmp_path)), **option))
