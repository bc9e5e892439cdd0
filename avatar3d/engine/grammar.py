"""Sentences from statements: words are picked from `wordings.txt`, put together, and set in one of four styles.

A sentence is built from fragments. Their kinds: `adj` before the noun, `noun`, `has` and `wears` (things, with
their article), `is` and `does` (what follows the noun, or a pronoun and a verb).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from avatar3d.engine.wordings import TENS, Split, number_words, wordings

Fragment = tuple[str, str]

_PRONOUNS = {"man": ("he", "his", "him"), "boy": ("he", "his", "him")}
_PRONOUNS |= {"woman": ("she", "her", "her"), "girl": ("she", "her", "her")}
_COLOR_FORMS = {
    "train": ("{c} {i}",) * 6 + ("{i} in {c}", "{i} that is {c}", "{c} colored {i}", "{i} colored {c}"),
    "held_out": ("{c} {i}",) * 3 + ("{c}-hued {i}", "{i} tinted {c}", "{i} of a {c} hue"),
}
_HAIR_FORMS = {
    "train": ("{c} hair",) * 4 + ("{c}-haired", "hair that is {c}", "{c} locks", "hair in {c}"),
    "held_out": ("{c} hair", "{c}-haired", "{c} tresses", "{c}-maned"),
}
_EYE_FORMS = {
    "train": ("{c} eyes",) * 3 + ("{c}-eyed", "eyes that are {c}", "{c} eye color", "eyes in {c}"),
    "held_out": ("{c} eyes", "{c}-eyed", "{c} irises", "{c} peepers"),
}


def compose(
    said: Mapping[str, str],
    generator: np.random.Generator,
    split: Split = "train",
    extras: Sequence[str] = (),
    held_out: str | None = None,
) -> str:
    """A sentence that makes the given statements (attribute -> statement name) and no others.

    `extras` are words without a meaning for the spec; one of them may be woven in. `held_out` names a statement
    to be made in a held-out wording while the rest of the sentence follows `split`.
    """
    return _Speaker(said, generator, split, blocks_of(held_out) if held_out else ()).speak(extras)


def blocks_of(statement: str) -> tuple[str, ...]:
    """Blocks of `wordings.txt` that word a statement."""
    attribute, value = statement.split(".")
    if attribute.endswith("_color") and attribute not in ("hair_color", "eye_color"):
        return (f"color.{value}",)
    if value.startswith("is_"):
        return ("age.exact",)
    if attribute == "age" and value[0].isdigit():
        return ("age.decade",)
    nouns = {
        "gender.boy": "man_teen",
        "gender.girl": "woman_teen",
        "gender.man": "man_old",
        "gender.woman": "woman_old",
    }
    return (statement, f"nouns.{nouns[statement]}") if statement in nouns else (statement,)


class _Speaker:
    def __init__(
        self, said: Mapping[str, str], generator: np.random.Generator, split: Split, held_out: Sequence[str]
    ) -> None:
        self.held_out = held_out
        self.left = dict(said)
        self.split: Split = split
        self.random = generator.random
        gender = said.get("gender", ".").split(".")[1]
        self.they, self.their, self.them = _PRONOUNS.get(gender, ("they", "their", "them"))
        self.fragments: list[Fragment] = []

    def one(self, choices: Sequence[str]) -> str:
        return choices[int(self.random() * len(choices))]

    def words(self, block: str, role: str) -> str:
        phrase = self.one(self.listed(block, role))
        return phrase.format(their=self.their, they=self.they, them=self.them) if "{" in phrase else phrase

    def split_of(self, block: str) -> Split:
        return "held_out" if block in self.held_out else self.split

    def listed(self, block: str, role: str) -> tuple[str, ...]:
        lists = wordings()[block][role]
        return lists[self.split_of(block)] or lists["train"]

    def take(self, attribute: str) -> str | None:
        return self.left.pop(attribute, None)

    def role(self, block: str, roles: Sequence[str]) -> str:
        """One of the roles that the block has, each as likely as it has wordings."""
        own = wordings()[block]
        weighted = [r for r in roles if r in own for _ in own[r][self.split_of(block)]]
        return self.one(weighted or [r for r in roles if r in own])

    def add(self, kind: str, text: str) -> None:
        self.fragments.append((kind, text))

    # -- what is said ------------------------------------------------------------------------------------

    def speak(self, extras: Sequence[str]) -> str:
        self.person()
        self.hair()
        self.beard()
        self.eyes()
        self.item("hat", "hat_color", "hat.any", "wears")
        self.item("earrings", None, None, "wears")
        self.item("lipstick", "lipstick_color", "lipstick.yes", "wears")
        self.item("eyeshadow", "eyeshadow_color", "eyeshadow.yes", "wears")
        self.glasses()
        self.top()
        self.item("bottom", "bottom_color", "bottom.generic", "wears")
        self.item("shoes", "shoes_color", "shoes.generic", "wears")
        for attribute in list(self.left):
            self.plain(self.left.pop(attribute))
        if extras and self.random() < 0.25:
            word = self.one(extras)
            self.add(*self.pair((("has", _article(word)), ("adj", word), ("is", f"from {word}"), ("is", word))))
        if self.random() < 0.10:
            self.add("is", self.words("carriers.filler", "text"))
        return self.styled()

    def pair(self, choices: Sequence[Fragment]) -> Fragment:
        return choices[int(self.random() * len(choices))]

    def plain(self, statement: str, roles: Sequence[str] = ("adj", "is", "does", "with")) -> None:
        role = self.role(statement, roles)
        self.add("has" if role == "with" else role, self.words(statement, role))

    def person(self) -> None:
        gender, age = self.take("gender"), self.take("age")
        kind = gender.split(".")[1] if gender else None
        years = age.split(".")[1] if age else None
        old, teen = years in ("old", "very_old"), years == "teen"
        if kind in ("man", "woman") and years == "old" and self.random() < 0.5:
            self.noun(self.words(f"nouns.{kind}_old", "noun"))
            age = None
        elif kind in ("boy", "girl") and teen and self.random() < 0.7:
            self.noun(self.words(f"nouns.{'man' if kind == 'boy' else 'woman'}_teen", "noun"))
            age = None
        elif gender and (kind == "androgynous" or (kind in ("man", "woman") and self.random() < 0.12)):
            taken = age and "noun" in wordings().get(age, {}) and self.random() < 0.4
            self.noun(self.words(age if taken else "nouns.person", "noun"))  # type: ignore[arg-type]
            age = None if taken else age
            self.plain(gender)
        elif gender:
            self.noun(self.words(gender, "noun"))
        elif age and "noun" in wordings().get(age, {}) and self.random() < (0.4 if old else 0.6):
            self.noun(self.words(age, "noun"))
            age = None
        else:
            self.noun(self.words("nouns.person", "noun"))
        if age:
            self.age(age)

    def noun(self, text: str) -> None:
        self.add("noun", text)

    def age(self, statement: str) -> None:
        name = statement.split(".")[1]
        if name.startswith("is_"):
            n = int(name[3:])
            role = self.role("age.exact", ("adj", "is", "is"))
            shown = number_words(n) if self.random() < 0.25 else str(n)
            text = self.one(self.listed("age.exact", role)).format(n=shown, w=number_words(n))
            self.add(role, text)
        elif name[0].isdigit():
            ten = int(name[:2])
            plural = re.sub("y$", "ies", TENS[ten])
            phrase = self.one(self.listed("age.decade", "is"))
            text = phrase.format(
                decade=plural, nns=f"{ten}s", n5=ten + 5, nn=TENS[ten], their=self.their, they=self.they
            )
            self.add("is", text)
        elif "adj" in wordings()[statement] or "is" in wordings()[statement]:
            self.plain(statement)
        else:
            self.add("is", "still " + _article(self.words(statement, "noun")))

    def hair(self) -> None:
        style, color = self.take("hair_style"), self.take("hair_color")
        if style:
            role = self.role(style, ("adj", "is", "does", "with", "hairadj", "hairnoun"))
            text = self.words(style, role)
            if role == "hairadj":
                shade = self.words(color, "c") if color else ""
                both = (text, shade) if self.random() < 0.75 else (shade, text)
                joined = (", " if self.random() < 0.2 and shade else " ").join(w for w in both if w)
                self.add("has", f"{joined} hair")
                color = None
            elif role == "hairnoun":
                if color:
                    text = _insert(text, self.words(color, "c"))
                    color = None
                self.add("has", _article(text))
            else:
                self.add("has" if role == "with" else role, text)
        if color:
            own = wordings()[color]
            if "adj" in own and self.random() < 0.12:
                self.plain(color)
            else:
                self.colored(_HAIR_FORMS, self.words(color, "c"))

    def colored(self, forms: Mapping[str, Sequence[str]], color: str) -> None:
        text = self.one(forms[self.split]).format(c=color)
        self.add("adj" if re.search(r"-(haired|maned|eyed)$", text) else "has", text)

    def eyes(self) -> None:
        color = self.take("eye_color")
        if color:
            self.colored(_EYE_FORMS, self.words(color, "c"))

    def beard(self) -> None:
        style, length = self.take("beard_style"), self.take("beard_length")
        if style and length:
            noun = self.words(style, "beardnoun")
            role = self.role(length, ("beardadj",))
            self.add("has", _article(_insert(noun, self.words(length, role))))
        elif style and "beardnoun" in wordings()[style] and self.random() < 0.7:
            self.add("has", _article(self.words(style, "beardnoun")))
        elif style:
            self.plain(style)

    def item(self, attribute: str, color_attribute: str | None, generic: str | None, kind: str) -> None:
        statement = self.take(attribute)
        color = self.take(color_attribute) if color_attribute else None
        if statement and "item" not in wordings()[statement]:
            self.plain(statement)
            return
        if not statement and not color:
            return
        text = self.words(statement or str(generic), "item")
        self.add(kind, _article(self.tinted(text, color)))

    def tinted(self, item: str, color: str | None) -> str:
        if not color:
            return item
        form = self.one(_COLOR_FORMS[self.split])
        return _form(form, self.words(f"color.{color.split('.')[1]}", "c"), item)

    def glasses(self) -> None:
        worn, shape, color = self.take("eyewear"), self.take("glasses"), self.take("glasses_color")
        if worn == "eyewear.none" or not (worn or shape or color):
            if worn:
                self.plain(worn)
            return
        if worn and not shape and not color and "adj" in wordings()[worn] and self.random() < 0.12:
            self.plain(worn, ("adj",))
            return
        if shape and not worn and "item" in wordings()[shape] and self.random() < 0.5:
            item = self.words(shape, "item")
        else:
            item = self.words(worn or "glasses.generic", "item")
            if shape:
                item = _insert(item, self.words(shape, "shape"))
        self.add("wears", _article(self.tinted(item, color)))

    def top(self) -> None:
        top, color = self.take("top"), self.take("top_color")
        pattern, second = self.take("top_pattern"), self.take("top_pattern_color")
        if not (top or color or pattern or second):
            return
        item = self.words(top or "top.generic", "item")
        shade = self.words(f"color.{second.split('.')[1]}", "c") if second else ""
        marked = pattern and "mark" in wordings()[pattern]
        if pattern and marked and (self.random() < 0.4 or (second and not color)):
            text = self.tinted(item, color)
            mark = self.words(pattern, "mark")
            self.add("wears", _article(f"{text} with {_insert(mark, shade) if shade else mark}"))
            return
        if pattern:
            item = _insert(item, self.words(pattern, "pattern"))
        if color and second:
            first = self.words(f"color.{color.split('.')[1]}", "c")
            self.add("wears", _article(_insert(item, f"{first} and {shade}")))
            return
        self.add("wears", _article(self.tinted(item, color)))

    # -- how it is said ----------------------------------------------------------------------------------

    def styled(self) -> str:
        dice = self.random()
        if dice < 0.28:
            text = self.keywords()
        elif dice < 0.44:
            text = self.sentences()
        else:
            text = self.sentence()
            if dice > 0.82:
                text = f"{self.words('carriers.prefix', 'text')} {text}"
                if self.random() < 0.4:
                    text += f", {self.words('carriers.suffix', 'text')}"
        dice = self.random()
        if dice < 0.30:
            text = text.lower()
        elif dice < 0.33:
            text = text.upper()
        else:
            text = text[0].upper() + text[1:]
        return text + (self.one(".. !") if self.random() < 0.5 else "")

    def shuffled(self, items: list[Fragment]) -> list[Fragment]:
        return [item for _, item in sorted(((self.random(), item) for item in items), key=lambda pair: pair[0])]

    def keywords(self) -> str:
        parts = self.shuffled(self.fragments)
        if len(parts) > 1 and self.random() < 0.6:
            parts.sort(key=lambda f: f[0] != "noun" and f[0] != "adj")
        if len(parts) > 1 and dict(parts)["noun"] in wordings()["nouns.person"]["noun"]["train"]:
            parts = [f for f in parts if f[0] != "noun"]
        separator = self.one((", ", ", ", ", ", " ", "; ", " + ", " and "))
        text = ""
        for i, (kind, words) in enumerate(parts):
            bare = re.sub(r"^(a|an|some) ", "", words)
            glue = " " if i and parts[i - 1][0] == "adj" and kind in ("adj", "noun") else separator
            text += (glue if i else "") + bare
        return text

    def split_up(self) -> tuple[str, list[Fragment]]:
        """The noun with at most three adjectives before it, and the other fragments in random order."""
        noun = next(text for kind, text in self.fragments if kind == "noun")
        adjectives = [text for kind, text in self.shuffled(self.fragments) if kind == "adj"]
        room = int(self.random() * 4)
        late = [("is", text) for text in adjectives[room:]]
        others = [f for f in self.fragments if f[0] not in ("noun", "adj")] + late
        glue = self.one((" ", ", ", " and ")) if room == 2 else " "
        return _article(" ".join(w for w in (glue.join(adjectives[:room]), noun) if w)), self.shuffled(others)

    def sentence(self) -> str:
        text, parts = self.split_up()
        if self.random() < 0.5:
            parts.sort(key=lambda f: f[0])
        last = ""
        for kind, words in parts:
            if kind == last and kind != "is" and self.random() < 0.75:
                text += self.one((" and ", ", ", ", and ", " & ")) + words
                continue
            if kind == "has":
                lead = f" {self.words('carriers.have', 'text')} "
            elif kind == "wears":
                lead = f" {self.words('carriers.wear', 'text')} "
            elif kind == "does":
                lead = " who " if not last else self.one((" and who ", ", who "))
            else:
                lead = (
                    self.one((", ", " ", " who is ", ", ", " and who is "))
                    if last
                    else self.one((" who is ", " ", ", "))
                )
            text += lead + words
            last = kind
        return text

    def sentences(self) -> str:
        text, parts = self.split_up()
        text = text[0].upper() + text[1:]
        subject = self.they.capitalize()
        for kind, words in parts:
            owner = self.one((subject, subject, "The person")) if kind != "does" else subject
            plural = owner == "They"
            has, wears, be = ("have", "wear", "are") if plural else ("has", "wears", "is")
            if self.split == "held_out" and self.random() < 0.3:
                has, wears = ("possess", "sport") if plural else ("possesses", "sports")
            verb = {"has": f"{has} ", "wears": f"{wears} ", "is": f"{be} ", "does": ""}[kind]
            text += f". {owner} {verb}{words}"
        return text


def _article(text: str) -> str:
    """`*jeans` -> `jeans`; `old hat` -> `an old hat`; texts that have an article or a mass noun stay."""
    if "*" in text:
        return text.replace("*", "")
    if re.match(r"(a|an|the|some|no|any) ", text):
        return text
    return ("an " if text[0].lower() in "aeiou" else "a ") + text


def _insert(item: str, words: str) -> str:
    """Put words before an item: after its `*`, its article, or `pair of`."""
    head = re.match(r"(\*?(?:pair of |(?:a|an|some|any|two) )?)(.*)", item)
    assert head is not None
    star, rest = head.groups()
    return f"{star}{words} {rest}"


def _form(form: str, color: str, item: str) -> str:
    if form.startswith("{c}"):
        return _insert(item, form.replace(" {i}", "").replace("{i}", "").format(c=color))
    return form.format(c=color, i=item)
