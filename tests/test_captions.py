"""Captions: they tell the truth, in many ways, and keep the held-out wordings out of training."""

import re

import numpy as np
import pytest

from avatar3d.conditioning.words import tokenize
from avatar3d.engine.captions import caption, choose
from avatar3d.engine.grammar import compose
from avatar3d.engine.pairs import draw, free_statements, make_people, people_from, splice
from avatar3d.engine.population import sample
from avatar3d.engine.statements import attributes, statements
from avatar3d.engine.wordings import number_words, wordings
from avatar3d.spec import FACE_CONTROLS, vector_layout


@pytest.fixture(scope="module")
def people():
    return make_people(np.random.default_rng(0), 3000)


def test_captions_are_true():
    generator = np.random.default_rng(1)
    for i in range(400):
        spec = sample(generator)
        made = caption(spec, generator, "train" if i % 2 else "held_out")
        assert made.text.strip()
        for attribute, constraint in made.mentioned.items():
            assert constraint.holds(spec), (attribute, constraint, made.text)


def test_what_can_be_said_is_accepted(people):
    """The strict reading implies the lenient one, for thousands of people."""
    from avatar3d.engine.columns import columns_from_vectors
    from avatar3d.engine.statements import matrix

    columns = columns_from_vectors(people.vectors)
    for s in statements().values():
        assert not (matrix(s.said, columns) & ~matrix(s.accepted, columns)).any(), s.name


def test_every_statement_can_be_made_about_somebody():
    people = make_people(np.random.default_rng(2), 30000)
    assert [name for name, rows in people.rows.items() if len(rows) == 0] == []


def test_statements_of_one_attribute_are_said_by_their_own_words():
    generator = np.random.default_rng(3)
    text = compose({"hat": "hat.beanie", "hat_color": "hat_color.red"}, generator, "train").lower()
    assert any(w in text for w in ("beanie", "hat", "cap"))
    assert any(c in text for c in wordings()["color.red"]["c"]["train"])


def test_each_value_has_eight_wordings_and_two_held_out():
    for block, roles in wordings().items():
        attribute = block.split(".")[0]
        if attribute not in attributes() or block.endswith(".generic"):
            continue
        train = sum(len(r["train"]) for r in roles.values())
        held = sum(len(r["held_out"]) for r in roles.values())
        forms = 3 if set(roles) & {"c", "item", "shape", "hairadj", "hairnoun", "pattern", "beardnoun"} else 1
        assert train * forms >= 8, (block, train)
        assert held >= 2, block


def test_held_out_wordings_are_not_training_wordings():
    """No held-out wording is a training wording, or part of one, of any block."""
    train = [
        " ".join(tokenize(phrase))
        for block, roles in wordings().items()
        for role in roles.values()
        for phrase in role["train"]
        if block != "idle"
    ]
    joined = " | ".join(train)
    for block, roles in wordings().items():
        for role in roles.values():
            for phrase in role["held_out"]:
                words = " ".join(tokenize(re.sub(r"\{\w+\}", "their", phrase)))
                if words:
                    assert not re.search(rf"\b{re.escape(words)}\b", joined), (block, phrase)


def test_untaught_words_never_occur_in_training_captions(people):
    """Half of the held-out wordings have a word that no training wording has: no training caption has it."""
    split_words = {
        split: {
            word
            for block, roles in wordings().items()
            for role in roles.values()
            for phrase in role[split]
            for word in tokenize(re.sub(r"\{\w+\}", " ", phrase))
        }
        for split in ("train", "held_out")
    }
    grammar = (
        "twenties thirties forties fifties sixties seventies eighties wear wears color colored hair eyes eye eyed "
        "haired locks the person still years year old"
    )
    untaught = split_words["held_out"] - split_words["train"] - set(grammar.split())
    untaught -= {word for n in range(100) for word in tokenize(number_words(n))}
    assert len(untaught) > 200
    generator = np.random.default_rng(4)
    for i in range(3000):
        said = draw(people, generator)[1] if i % 2 else free_statements(generator)
        text = compose(said, generator, "train")
        assert not untaught & set(tokenize(text)), text


def test_mentions_do_not_depend_on_values(people):
    """A popular attribute is mentioned as often of those who have it as of those who have not."""
    generator = np.random.default_rng(5)
    index = list(statements()).index("hat.none")
    counts = {True: [0, 0], False: [0, 0]}
    for _ in range(3):
        for true in people.true:
            own = counts[bool(true[index])]
            own[0] += "hat" in choose(true, generator, count=8)
            own[1] += 1
    with_hat, without = (counts[k][0] / counts[k][1] for k in (False, True))
    assert abs(with_hat - without) < 0.05


def test_draws_hold_for_the_person_drawn(people):
    generator = np.random.default_rng(6)
    names = list(statements())
    for _ in range(500):
        row, said = draw(people, generator)
        assert all(people.true[row, names.index(n)] for n in said.values())
        assert all(n.split(".")[0] == a for a, n in said.items())


def test_spliced_people_are_valid_and_include_the_unlikely(people):
    made = people_from(splice(people, np.random.default_rng(7), 3000))
    choices = [e for e in vector_layout() if e.choices]
    for e in choices:
        assert (np.sort(made.vectors[:, e.start : e.start + e.size], 1)[:, -2:] == [-1, 1]).all(), e.name
    names = list(statements())
    woman, beard = (made.true[:, names.index(n)] for n in ("gender.woman", "beard_style.full"))
    assert (woman & beard).any()


def test_same_generator_same_caption():
    spec = sample(np.random.default_rng(8))
    a, b = (caption(spec, np.random.default_rng(9)) for _ in range(2))
    assert a == b


def test_one_statement_can_be_worded_with_held_out_words():
    """Only the wordings of its own blocks change; the rest of the sentence keeps to the training wordings."""
    generator = np.random.default_rng(10)
    said = {"hat": "hat.beanie", "shoes": "shoes.boots"}
    beanies, boots = (wordings()[name]["item"] for name in said.values())

    def has(text: str, phrases: tuple[str, ...]) -> bool:
        return any(phrase.strip("*") in text for phrase in phrases)

    for _ in range(50):
        text = compose(said, generator, "train", held_out="hat.beanie").lower()
        assert has(text, beanies["held_out"]) and has(text, boots["train"]), text


def test_number_words():
    assert [number_words(n) for n in (5, 13, 20, 78, 95)] == [
        "five",
        "thirteen",
        "twenty",
        "seventy-eight",
        "ninety-five",
    ]


def test_people_can_name_most_of_a_spec():
    """Every choice field, and the face controls that people have words for, are within reach of a prompt."""
    fields = {test.field for s in statements().values() for test in s.said}
    unreachable = {e.name for e in vector_layout() if e.choices} - fields
    assert unreachable == set()
    assert sum(f"face.{c}" in fields for c in FACE_CONTROLS) >= 18
