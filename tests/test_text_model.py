"""The text model: reading, sampling, refusing; with the weights that ship."""

import dataclasses

import numpy as np
import pytest
import torch

from avatar3d.conditioning.model import MODEL_TYPE, build_denoiser, condition, correct, encode, load_text_model
from avatar3d.conditioning.prompt import (
    PromptError,
    check_prompt,
    default_model,
    read,
    sample_from,
    sample_specs,
    sample_vectors,
    understand,
)
from avatar3d.conditioning.reader import Reader, reading_loss, statement_index
from avatar3d.conditioning.words import edit_distance, nearest_spelling, tokenize
from avatar3d.engine.captions import choose
from avatar3d.engine.columns import columns_from_vectors
from avatar3d.engine.grammar import compose
from avatar3d.engine.pairs import make_people
from avatar3d.engine.statements import matrix, statements
from avatar3d.spec import SpecError, spec_from_json, spec_to_json
from avatar3d.weights import WeightsError, load_tensors, save_tensors, weights_path

TEXT, WORDS = weights_path("text_to_spec.safetensors"), weights_path("words.safetensors")


@pytest.fixture(scope="module")
def model():
    return default_model()


# -- words ----------------------------------------------------------------------------------------------------


def test_tokens():
    assert tokenize("Pale-skinned, 78! T-shirt") == ["pale", "skinned", ",", "78", ",", "t", "shirt"]
    assert tokenize("café — naïve") == ["cafe", "naive"]
    assert tokenize("") == []


def slow_distance(a: str, b: str) -> int:
    """Optimal string alignment by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    best = min(
        slow_distance(a[1:], b) + 1, slow_distance(a, b[1:]) + 1, slow_distance(a[1:], b[1:]) + (a[0] != b[0])
    )
    if len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0]:
        best = min(best, slow_distance(a[2:], b[2:]) + 1)
    return best


def test_edit_distance_is_that_of_the_definition():
    generator = np.random.default_rng(0)
    for _ in range(200):
        a, b = ("".join(generator.choice(list("abc"), generator.integers(1, 6))) for _ in range(2))
        assert edit_distance(a, b, 99) == slow_distance(a, b)
        assert edit_distance(a, b, 2) == min(2, slow_distance(a, b))


def test_spelling():
    words = ("glasses", "beard", "hat", "moustache")
    assert nearest_spelling("glases", words) == "glasses"
    assert nearest_spelling("baerd", words) == "beard"
    assert nearest_spelling("mustashe", words) == "moustache"
    assert nearest_spelling("ht", words) is None
    assert nearest_spelling("dragon", words) is None


def test_known_words_are_left_alone(model):
    for word in ("glasses", "dragon", "bread", "78", "beard"):
        assert correct(word, model.config, model.lexicon) == word
    assert correct("sunglases", model.config, model.lexicon) == "sunglasses"


def test_synonyms_are_near(model):
    def cosine(a, b):
        rows = model.lexicon.vectors[[model.lexicon.row(a), model.lexicon.row(b)]]
        return float(rows[0] @ rows[1])

    for word, synonym, stranger in (
        ("crimson", "red", "spoon"),
        ("beret", "hat", "river"),
        ("irate", "angry", "lamp"),
    ):
        assert cosine(word, synonym) > cosine(word, stranger) + 0.2
    assert model.lexicon.row("beanies") == model.lexicon.row("beanie") >= 0
    assert model.lexicon.row("qqqqq") == -1


# -- the reader's mathematics ---------------------------------------------------------------------------------


def test_reading_loss_is_cross_entropy_over_each_attribute():
    torch.manual_seed(0)
    sizes = [2, 3]
    logits = torch.randn(1, 7)
    target = torch.tensor([[1, -1]])
    first = torch.cat([logits[0, :2], logits[0, 5:6]]).log_softmax(0)[1]
    second = torch.cat([logits[0, 2:5], logits[0, 6:7]]).log_softmax(0)[3]
    torch.testing.assert_close(reading_loss(logits, target, sizes), -(first + second))


def test_statement_index_takes_the_best_or_none():
    logits = torch.tensor([[1.0, 3.0, 0.0, 5.0, 4.0, 2.0, 6.0]])
    assert statement_index(logits, [2, 3]).tolist() == [[1, -1]]


def test_padding_changes_nothing():
    torch.manual_seed(0)
    reader = Reader([0, 0, 1], 10, 4, width=16, heads=2).eval()
    words, vectors = torch.randint(1, 10, (1, 5)), torch.randn(1, 5, 4)
    mask = torch.ones(1, 5, dtype=torch.bool)
    alone = reader(words, vectors, None, mask)
    pad = torch.nn.functional.pad
    padded = reader(pad(words, (0, 3)), pad(vectors, (0, 0, 0, 3)), None, pad(mask, (0, 3)))
    torch.testing.assert_close(alone, padded)


# -- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("old man with glasses", {"age.old", "gender.man", "eyewear.glasses"}),
        ("a woman without glasses", {"gender.woman", "eyewear.none"}),
        ("A red hat and a blue shirt", {"hat.any", "hat_color.red", "top.shirt", "top_color.blue"}),
        ("a blue hat and a red shirt", {"hat.any", "hat_color.blue", "top.shirt", "top_color.red"}),
        ("TEENAGE GIRL, FRECKLES", {"age.teen", "gender.girl", "freckles.yes"}),
        ("clean-shaven man, green hoodie", {"beard_style.none", "gender.man", "top.hoodie", "top_color.green"}),
        ("78 years old", {"age.is_78"}),
        ("woman with long blonde hair and blue eyes",
         {"gender.woman", "hair_style.long", "hair_color.blonde", "eye_color.blue"}),
        ("oldd man with glases", {"age.old", "gender.man", "eyewear.glasses"}),
        ("a bearded woman", {"beard_style.full", "gender.woman"}),
    ],
)  # fmt: skip
def test_prompts_are_understood(prompt, expected, model):
    assert set(understand(prompt, model).statements) == expected


def test_words_are_reported(model):
    got = understand("Old man with a dragon and glases", model)
    assert got.used == ("old", "man", "glases")
    assert got.unused == ("dragon",)
    assert got.corrected == {"glases": "glasses"}


def test_unused_words_have_no_effect(model):
    plain = understand("old man with a hat", model)
    assert understand("old dragon man with a hat spaceship", model).statements == plain.statements


def test_reading_does_not_depend_on_the_batch(model):
    texts = ["old man with glasses", "a very long prompt about a tall woman in a red dress and with white boots"]
    assert read(texts, model) == [read([t], model)[0] for t in texts]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "is empty"),
        (" \n\t ", "is empty"),
        ("old man " * 1250, "10000 characters, at most 1000"),
        ("old man\x00", "which is not text"),
        ("old \x1b[31mman", "which is not text"),
        ("old man \udcff", "which is not text"),
        ("старик в очках", "script that is not read here, English is understood"),
        ("戴眼镜的老人", "script that is not read here"),
        ("رجل عجوز", "script that is not read here"),
        ("!!! ... ???", "has no words"),
        ("a dragon", r"nothing in it can be used \('dragon'\); say who it is"),
        ("with and the", "it says nothing"),
    ],
)
def test_bad_prompts_say_what_can_be_said(prompt, says, model):
    with pytest.raises(PromptError, match=says) as caught:
        understand(prompt, model)
    assert "old man with glasses" in str(caught.value)


def test_good_prompts_pass_the_check():
    for prompt in (
        "old man",
        "señor with a moustache",
        "x" * 1000,
        "a\tman\nwith a hat",
        "78",
        "\N{GRINNING FACE} man",
    ):
        check_prompt(prompt)


# -- sampling -------------------------------------------------------------------------------------------------


def test_same_seed_same_spec_whatever_the_count(model):
    three = sample_specs("old man with glasses", 7, 3, model=model)
    assert [s.seed for s in three] == [7, 8, 9]
    assert sample_specs("old man with glasses", 8, model=model) == [three[1]]
    assert len({spec_to_json(dataclasses.replace(s, seed=0)) for s in three}) == 3
    assert spec_from_json(spec_to_json(three[0])) == three[0]


def test_bad_seeds_and_counts(model):
    for seed in (-1, 2**63):
        with pytest.raises(SpecError, match="seed must be"):
            sample_specs("old man", seed, model=model)
    with pytest.raises(SpecError, match="count must be"):
        sample_specs("old man", 0, 0, model=model)
    assert sample_specs("old man", 2**63 - 1, model=model)[0].seed == 2**63 - 1


def test_the_last_seed_wraps(model):
    assert [s.seed for s in sample_from(["gender.man"], 2**63 - 1, 2, model=model)] == [2**63 - 1, 0]


def test_people_are_as_the_prompt_says(model):
    said = ("gender.woman", "age.old", "hat.fedora", "hat_color.red", "top_color.green", "eyewear.sunglasses")
    noise = torch.randn(100, model.denoiser.enter.in_features, generator=torch.Generator().manual_seed(0))
    vectors = sample_vectors(condition([said] * 100, model.config), noise, model)
    columns = columns_from_vectors(vectors)
    for name in said:
        assert matrix(statements()[name].accepted, columns).mean() > 0.95, name


def test_colors_go_to_their_garments(model):
    """On unseen captions of a hat, a top and shoes in three colors, hardly any color lands on the wrong one."""
    generator = np.random.default_rng(3)
    colors = ("red", "green", "yellow", "black", "white", "purple", "pink", "brown")
    right = total = 0
    texts, wanted = [], []
    for _ in range(100):
        a, b, c = generator.choice(colors, 3, replace=False)
        said = {"hat": "hat.cap", "hat_color": f"hat_color.{a}", "top": "top.shirt", "top_color": f"top_color.{b}"}
        said |= {"shoes": "shoes.boots", "shoes_color": f"shoes_color.{c}"}
        texts.append(compose(said, generator, "train"))
        wanted.append(said)
    for found, said in zip(read(texts, model), wanted, strict=True):
        right += sum(said[k] in found for k in ("hat_color", "top_color", "shoes_color"))
        total += 3
    assert right / total > 0.95


@pytest.mark.parametrize(("split", "bar"), [("train", 0.97), ("held_out", 0.72)])
def test_agreement_on_captions(split, bar, model):
    """A small version of what scripts/evaluate_text.py measures; held out are all wordings of a prompt."""
    generator = np.random.default_rng(11)
    people = make_people(generator, 300)
    said = [choose(true, generator, count=3) for true in people.true]
    found = read([compose(s, generator, split) for s in said], model)
    vectors = sample_vectors(
        condition(found, model.config),
        torch.from_numpy(generator.standard_normal((300, 315), dtype=np.float32)),
        model,
    )
    columns = columns_from_vectors(vectors)
    hits = [matrix(statements()[n].accepted, columns)[i] for i, s in enumerate(said) for n in s.values()]
    assert np.mean(hits) > bar


def test_guidance_makes_a_difference_and_one_is_off(model):
    noise = torch.randn(1, model.denoiser.enter.in_features, generator=torch.Generator().manual_seed(0))
    said = condition([["age.old"]], model.config)
    plain, guided = (sample_vectors(said, noise, model, guidance=g) for g in (1.0, 3.0))
    assert not np.array_equal(plain, guided)
    assert np.array_equal(plain, sample_vectors(said, noise, model, guidance=1.0))


# -- weights --------------------------------------------------------------------------------------------------


def test_shipped_weights_are_small_and_about_the_statements_of_today(model):
    assert TEXT.stat().st_size + WORDS.stat().st_size < 25e6
    assert model.config.statements == tuple(statements())


def test_broken_weights_say_so(tmp_path):
    tensors, metadata = load_tensors(TEXT, MODEL_TYPE)
    path = tmp_path / "text.safetensors"
    with pytest.raises(WeightsError, match="no weights at"):
        load_text_model(path, WORDS)
    path.write_bytes(TEXT.read_bytes()[:100000])
    with pytest.raises(WeightsError, match="damaged"):
        load_text_model(path, WORDS)
    with pytest.raises(WeightsError, match=r"holds avatar3d.word_vectors, expected avatar3d.text_to_spec"):
        load_text_model(WORDS, WORDS)
    save_tensors(path, tensors, metadata | {"text": "{"})
    with pytest.raises(WeightsError, match="damaged metadata"):
        load_text_model(path, WORDS)
    few = {k: v for k, v in tensors.items() if k != "reader.query"}
    save_tensors(path, few, metadata)
    with pytest.raises(WeightsError, match=r"lacks the tensor query"):
        load_text_model(path, WORDS)
    save_tensors(path, tensors | {"denoiser.leave.bias": torch.full((315,), float("nan"))}, metadata)
    with pytest.raises(WeightsError, match="not finite"):
        load_text_model(path, WORDS)


def test_encode_gives_untaught_words_their_vector_alone(model):
    words, vectors, _, mask = encode(["bespectacled man"], model.config, model.lexicon)
    assert words[0, 0] == 0 or "bespectacled" in model.config.index
    assert bool((vectors[0].abs().sum(-1) > 0).all()) and bool(mask.all())
    assert isinstance(build_denoiser(model.config), torch.nn.Module)
