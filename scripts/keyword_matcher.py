"""The baseline of the prompt reader: look for the training wordings in the text, longest first.

It knows every wording that the reader was trained on, ties colors and shapes to the garment that follows (or to
the one before "in" or "that is"), and knows nothing else.
"""

from __future__ import annotations

from collections import defaultdict

from avatar3d.conditioning.words import BOUNDARY, tokenize
from avatar3d.engine.statements import statements
from avatar3d.engine.wordings import number_words, wordings

_ARTICLES = ("a", "an", "the", "some", "any")
_AFTER = (("in",), ("that", "is"), ("colored",), ("that", "are"), ("eyes", "that", "are"))
_COLORED = {  # family of an item's statement -> its color attribute
    "hat": "hat_color", "eyewear": "glasses_color", "glasses": "glasses_color", "top": "top_color",
    "bottom": "bottom_color", "shoes": "shoes_color", "lipstick": "lipstick_color", "eyeshadow": "eyeshadow_color",
}  # fmt: skip


class KeywordMatcher:
    def __init__(self) -> None:
        self.table: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
        for block, roles in wordings().items():
            for role, splits in roles.items():
                for phrase in splits["train"] if block != "idle" and not block.startswith("carriers") else ():
                    for filled in {phrase.format(**_FILL, their=t) for t in ("his", "her", "their")}:
                        words = tuple(w for w in tokenize(filled) if w != BOUNDARY)
                        while words and words[0] in _ARTICLES:
                            words = words[1:]
                        if words and block not in ("age.exact", "age.decade"):
                            self.table[words].append((role, block))
        for kind in ("man", "woman"):
            for age in ("old", "teen"):
                gender = f"gender.{kind if age == 'old' else {'man': 'boy', 'woman': 'girl'}[kind]}"
                for phrase in wordings()[f"nouns.{kind}_{age}"]["noun"]["train"]:
                    for t in ("his", "her", "their"):
                        words = tuple(tokenize(phrase.format(their=t)))
                        self.table[words] = [("two", f"age.{age}"), ("two", gender)]
        for n in range(5, 96):
            for spelled in (str(n), number_words(n)):
                self.table[tuple(tokenize(spelled))].append(("age", f"age.is_{n}"))
        for ten, word in ((20, "twenties"), (30, "thirties"), (40, "forties"), (50, "fifties"), (60, "sixties")):
            self.table[(word,)].append(("age", f"age.{ten}s"))
            self.table[(str(ten), "s")].append(("age", f"age.{ten}s"))
        for ten, word in ((70, "seventies"), (80, "eighties")):
            self.table[(word,)].append(("age", f"age.{ten}s"))
            self.table[(str(ten), "s")].append(("age", f"age.{ten}s"))
        self.longest = max(map(len, self.table))

    def read(self, text: str) -> list[str]:
        """Statements found, at most one of each attribute (the first one)."""
        found: dict[str, str] = {}
        waiting: list[list[tuple[str, str]]] = []
        last: str | None = None
        tokens = tokenize(text)
        i = 0
        while i < len(tokens):
            length = next((n for n in range(self.longest, 0, -1) if tuple(tokens[i : i + n]) in self.table), 0)
            if not length:
                word = tokens[i]
                if word in ("hair", "haired", "locks"):
                    self._say(waiting, found, ("hairadj", "hair_style"), ("c", "hair_color"))
                    waiting, last = [], "hair"
                elif word in ("eyes", "eyed", "eye"):
                    self._say(waiting, found, ("c", "eye_color"))
                    waiting, last = [], "eyes"
                elif word == BOUNDARY:
                    waiting = []
                i += 1
                continue
            readings = self.table[tuple(tokens[i : i + length])]
            before = tuple(tokens[max(0, i - 2) : i])
            roles = {role for role, _ in readings}
            if "c" in roles and last and any(before[-len(a) :] == a for a in _AFTER):
                self._say([readings], found, ("c", {"hair": "hair_color", "eyes": "eye_color"}.get(last, last)))
            elif roles & {"c", "hairadj", "shape", "pattern", "beardadj"}:
                waiting.append(readings)
            else:
                last = self._thing(readings, waiting, found)
                waiting = []
            i += length
        for readings in waiting:
            self._plain(readings, found)
        return list(found.values())

    def _thing(self, readings: list[tuple[str, str]], waiting: list, found: dict[str, str]) -> str | None:
        """Take a thing or a plain statement, with the colors and shapes that wait for it."""
        role, block = readings[0]
        family = block.split(".")[0]
        self._plain(readings, found)
        if role == "item" or role == "mark":
            color = _COLORED.get(family, "top_pattern_color" if role == "mark" else "")
            self._say(waiting, found, ("c", color), ("shape", "glasses"), ("pattern", "top_pattern"))
            return color
        if role == "hairnoun":
            self._say(waiting, found, ("c", "hair_color"), ("hairadj", "hair_style"))
            return "hair"
        if role == "beardnoun":
            self._say(waiting, found, ("beardadj", "beard_length"))
            return None
        for held in waiting:
            self._plain(held, found)
        return None

    def _plain(self, readings: list[tuple[str, str]], found: dict[str, str]) -> None:
        for role, block in readings:
            if block in statements() and role not in ("c", "hairadj", "shape", "pattern", "beardadj"):
                found.setdefault(block.split(".")[0], block)
                if role != "two":
                    return

    def _say(self, waiting: list, found: dict[str, str], *wanted: tuple[str, str]) -> None:
        for readings in waiting:
            for role, attribute in wanted:
                for own, block in readings:
                    family, value = block.split(".")
                    if own == role and attribute and (family == attribute or family == "color"):
                        name = f"{attribute}.{value}"
                        if name in statements() and (
                            family != "color" or attribute not in ("hair_color", "eye_color")
                        ):
                            found.setdefault(attribute, name)


_FILL = {"they": "they", "them": "them", "decade": "", "nns": "", "n5": "", "nn": "", "n": "", "w": ""}
