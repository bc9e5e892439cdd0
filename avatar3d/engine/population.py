"""Plausible people: who there is, as one table of statistics, and a sampler that follows it.

Everything is drawn column by column for many people at once. A column is an array of one number per person;
a choice is stored as its index in the field's choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar3d.engine.columns import Columns, vectors_from_columns
from avatar3d.spec import (
    BEARD_STYLES,
    BODY_CONTROLS,
    BOTTOMS,
    COLORS,
    EARRINGS,
    EXPRESSIONS,
    EYE_COLORS,
    FACE_CONTROLS,
    GLASSES_SHAPES,
    HAIR_COLORS,
    HAIR_STYLES,
    HATS,
    PATTERNS,
    SHOES,
    TOPS,
    AvatarSpec,
    spec_from_vector,
)  # fmt: skip

Number = int | float
Weights = tuple[Number, ...]


@dataclass(frozen=True)
class Ancestry:
    """A group of people: its share, its mean shares of the three shapes, and its skin."""

    name: str
    share: Number
    african: Number
    asian: Number
    european: Number
    spread: Number
    """Concentration of the Dirichlet distribution around the three means; large is tight."""
    tone: Number
    tone_sd: Number
    warmth: Number


@dataclass(frozen=True)
class Population:
    """The statistics of who is sampled. Weights need not sum to one; their order is that of the choices."""

    # fmt: off
    ages: tuple[tuple[Number, Number, Number], ...] = (
        (5, 13, 0.09), (13, 20, 0.09), (20, 32, 0.22), (32, 45, 0.20), (45, 60, 0.18), (60, 75, 0.13),
        (75, 95, 0.09),
    )
    """(from, to, share)"""
    androgynous: float = 0.04
    """Share of people whose gender lies around the middle; the rest are half women, half men."""
    ancestries: tuple[Ancestry, ...] = (
        #         name              share  afr   asi   eur  spread tone  sd    warmth
        Ancestry("european",        0.32, 0.03, 0.04, 0.93, 30.0, 0.17, 0.07, 0.45),
        Ancestry("east_asian",      0.18, 0.03, 0.92, 0.05, 30.0, 0.26, 0.08, 0.62),
        Ancestry("african",         0.20, 0.92, 0.03, 0.05, 30.0, 0.80, 0.10, 0.50),
        Ancestry("south_asian",     0.10, 0.08, 0.36, 0.56, 40.0, 0.57, 0.09, 0.60),
        Ancestry("middle_eastern",  0.07, 0.20, 0.08, 0.72, 40.0, 0.38, 0.07, 0.55),
        Ancestry("latin_american",  0.08, 0.10, 0.42, 0.48, 40.0, 0.40, 0.08, 0.60),
        Ancestry("mixed",           0.05, 0.34, 0.33, 0.33,  6.0, 0.45, 0.14, 0.55),
    )
    # hair styles:             bald bldg buzz shrt side quif  bob str. wavy curl afro pony  bun brds mohk drds
    hair_men: Weights =        ( 3.0, 6.0, 11., 24., 20., 12., .4, 2.0, 1.5, 7.0, .6, 1.2, 1.2, .4, 1.2, .6)
    hair_women: Weights =      ( .10, .10, .60, 6.0, 2.0, .60, 17., 22., 18., 11., .7, 11., 9.0, 4.0, .5, .4)
    hair_african: Weights =    ( 2.0, 1.0, 2.5, .80, .10, .20, .40, .15, .30, 2.0, 22., .7, 1.0, 5.0, .8, 12.)
    hair_old: Weights =        ( 2.0, 2.0, .80, 1.3, 1.3, .30, 1.5, .40, .50, 1.2, .4, .4, 1.6, .20, .10, .2)
    # hair colors:             blck dkbr brwn ltbr aubn  red blon plat (grey and white come with age)
    hair_european: Weights =   ( 6.0, 18., 26., 16., 6.0, 5.0, 18., 3.0)
    hair_asian: Weights =      ( 70., 22., 6.0, 1.0, .40, .10, .30, .20)
    hair_black: Weights =      ( 80., 14., 4.0, .70, .50, .10, .30, .40)
    dyed: Weights =            ( 0.0, 0.0, 0.0, 0.0, 8.0, 12., 10., 16., 2.0, 4.0, 14., 16., 9.0, 9.0)
    dyed_share: float = 0.06
    grey_onset: tuple[float, float] = (46.0, 9.0)
    """Mean and deviation of the age at which hair begins to grey."""
    grey_years: float = 24.0
    grey_hidden: tuple[float, float] = (0.10, 0.40)
    """Shares of men and of women who colour their grey hair."""
    # beards:                  none stbl mous goat full
    beard_men: Weights =       (48., 17., 8.0, 10., 17.)
    beard_young: Weights =     (80., 14., 3.0, 2.0, 1.0)
    beard_women: float = 0.002
    # eyes:                    brwn dkbr hazl ambr gren blue grey
    eyes_light: Weights =      (24., 8.0, 14., 3.0, 13., 30., 8.0)
    eyes_dark: Weights =       (45., 48., 3.0, 2.5, .60, .50, .40)
    glasses_share: tuple[float, float, float] = (0.16, 0.32, 0.52)
    """At the ages 5, 30 and 80."""
    # glasses:                 none rond sqre rect ceye avia
    glasses_men: Weights =     ( 0.0, 22., 24., 32., .50, 16.)
    glasses_women: Weights =   ( 0.0, 28., 22., 22., 18., 9.0)
    sunglasses_share: float = 0.24
    hat_share: float = 0.15
    # hats:                    none bean  cap fdra scrf
    hat_men: Weights =         ( 0.0, 38., 42., 18., 2.0)
    hat_women: Weights =       ( 0.0, 36., 24., 8.0, 32.)
    # tops:                    tshr shrt jump hood jack suit drss tank
    top_men: Weights =         (24., 21., 16., 14., 12., 8.0, .10, 5.0)
    top_women: Weights =       (20., 15., 17., 9.0, 9.0, 4.0, 18., 8.0)
    # bottoms:                 trsr jean shrt skrt
    bottom_men: Weights =      (40., 42., 17., .10)
    bottom_women: Weights =    (30., 36., 10., 24.)
    # shoes:                   trnr boot drss sndl
    shoes_men: Weights =       (48., 20., 24., 8.0)
    shoes_women: Weights =     (40., 24., 20., 16.)
    # patterns:                plan strp chck dots
    patterns: Weights =        (64., 15., 12., 9.0)
    # colors:                  blck whit grey  red oran yell gren teal blue navy purp pink brwn beig gold silv
    clothes: Weights =         (14., 13., 10., 8.0, 4.0, 4.0, 7.0, 4.0, 11., 9.0, 4.0, 3.0, 4.0, 5.0, .80, .80)
    trousers: Weights =        (20., 5.0, 14., 2.0, 1.0, 1.0, 4.0, 1.0, 16., 18., 1.0, 1.0, 8.0, 8.0, .40, .60)
    shoe_colors: Weights =     (30., 22., 9.0, 5.0, 2.0, 1.5, 2.0, 1.5, 4.0, 4.0, 1.5, 2.0, 18., 5.0, .80, 1.0)
    frames: Weights =          (34., 3.0, 6.0, 5.0, 1.0, 1.0, 2.0, 2.0, 6.0, 4.0, 2.0, 2.0, 16., 2.0, 8.0, 8.0)
    lips: Weights =            ( 1.0, .30, .20, 42., 4.0, .20, .20, .20, .40, .20, 7.0, 28., 10., 6.0, .60, .20)
    lids: Weights =            ( 8.0, 2.0, 8.0, 2.0, 4.0, 2.0, 5.0, 5.0, 10., 4.0, 12., 10., 18., 6.0, 5.0, 4.0)
    # earrings:                none stud hoop
    earrings_men: Weights =    (93., 5.0, 2.0)
    earrings_women: Weights =  (52., 29., 19.)
    lipstick_women: float = 0.45
    eyeshadow_women: float = 0.32
    # expressions:             neut smil  sad angr surp
    expressions: Weights =     (52., 33., 5.0, 5.0, 5.0)
    face_sd: float = 0.30
    face_sds: tuple[tuple[str, float], ...] = (
        ("head_back", 0.2), ("head_depth", 0.2), ("nose_greek", 0.2), ("jaw_drop", 0.15), ("mouth_forward", 0.2),
        ("jaw_prognathism", 0.2), ("eye_depth_inner", 0.2), ("eye_depth_outer", 0.2), ("nose_base", 0.2),
    )
    """Deviations that differ from `face_sd`."""
    body_sd: float = 0.30
    face_links: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("nose size", ("nose_volume", "nose_width", "nose_length", "nose_tip_size")),
        ("lip fullness", ("upper_lip_volume", "lower_lip_volume")),
        ("ear size", ("ear_size", "ear_lobe")),
        ("jaw", ("chin_width", "chin_bones")),
    )
    """Controls that share half of their variance."""
    face_means: tuple[tuple[str, str, float], ...] = (
        ("african", "nose_width", 0.05), ("african", "upper_lip_volume", 0.05),
        ("african", "lower_lip_volume", 0.05),
        ("asian", "eye_epicanthus", 0.25), ("asian", "nose_bridge_width", 0.10), ("european", "nose_depth", 0.10),
        ("man", "chin_width", 0.10), ("man", "brow_ridge", 0.08), ("man", "nose_volume", 0.08),
        ("woman", "upper_lip_volume", 0.08), ("woman", "eye_size", 0.08), ("old", "ear_size", 0.15),
        ("old", "eye_bags", 0.25), ("old", "laugh_lines", 0.25), ("heavy", "neck_double_chin", 0.25),
        ("heavy", "head_fat", 0.20), ("heavy", "cheek_volume", 0.20), ("old", "neck_double_chin", 0.08),
    )
    """(who, control, shift of the mean when fully so)"""
    body_means: tuple[tuple[str, str, float], ...] = (
        ("heavy", "belly", 0.35), ("heavy", "waist", 0.25), ("man", "shoulder_width", 0.12),
        ("woman", "hips", 0.12),
        ("strong", "shoulder_width", 0.20), ("strong", "chest", 0.15), ("strong", "torso_v_shape", 0.15),
    )
    # fmt: on


def sample(generator: np.random.Generator, population: Population | None = None) -> AvatarSpec:
    """One person. For many at once `sample_vectors` is hundreds of times faster."""
    vector = sample_vectors(generator, 1, population)[0]
    return spec_from_vector(vector, seed=int(generator.integers(2**63)))


def sample_vectors(generator: np.random.Generator, count: int, population: Population | None = None) -> np.ndarray:
    """(count, D) float32 spec vectors of that many people."""
    return vectors_from_columns(_sample_columns(generator, count, population or Population()))


def _sample_columns(generator: np.random.Generator, count: int, p: Population) -> Columns:
    c: Columns = {}
    _who(c, generator, count, p)
    man = _ramp(c["gender"], 0.4, 0.6)
    _skin(c, generator, p, man)
    _hair(c, generator, p, man)
    _accessories(c, generator, p, man)
    _clothes(c, generator, p, man)
    c["expression"] = _choose(generator, np.tile(p.expressions, (count, 1)), EXPRESSIONS)
    signs = {
        "african": c["african"], "asian": c["asian"], "european": c["european"], "man": man, "woman": 1 - man,
        "old": _ramp(c["age"], 45, 80), "heavy": 2 * c["weight"] - 1, "strong": 2 * c["muscle"] - 1,
    }  # fmt: skip
    _controls(c, generator, "face", FACE_CONTROLS, p.face_sd, dict(p.face_sds), p.face_links, p.face_means, signs)
    _controls(c, generator, "body", BODY_CONTROLS, p.body_sd, {}, (), p.body_means, signs)
    return c


def _who(c: Columns, generator: np.random.Generator, count: int, p: Population) -> None:
    band = np.array(p.ages)
    k = generator.choice(len(band), count, p=band[:, 2] / band[:, 2].sum())
    c["age"] = generator.uniform(band[k, 0], band[k, 1])
    kind = generator.random(count)
    side = 0.30 * generator.beta(1.2, 3.0, count)
    middle = generator.uniform(0.40, 0.60, count)
    half = (1.0 - p.androgynous) / 2.0
    c["gender"] = np.where(kind < half, side, np.where(kind < 2 * half, 1.0 - side, middle))
    man = _ramp(c["gender"], 0.4, 0.6)
    share = np.array([a.share for a in p.ancestries])
    a = generator.choice(len(share), count, p=share / share.sum())
    mean = np.array([(x.african, x.asian, x.european) for x in p.ancestries])
    spread = np.array([x.spread for x in p.ancestries])
    parts = generator.gamma(mean[a] * spread[a, None]) + 1e-6
    parts /= parts.sum(1, keepdims=True)
    c["african"], c["asian"], c["european"] = parts.T
    tone = np.array([(x.tone, x.tone_sd, x.warmth) for x in p.ancestries])[a]
    c["skin_tone"] = _normal(generator, tone[:, 0], tone[:, 1], 0.0, 1.0)
    c["skin_warmth"] = _normal(generator, tone[:, 2], 0.16, 0.0, 1.0)
    old = _ramp(c["age"], 30, 65)
    c["height"] = _normal(generator, 0.5, 0.21, 0.0, 1.0, count)
    c["weight"] = _normal(generator, 0.46 + 0.10 * old - 0.08 * (c["age"] < 16), 0.20, 0.0, 1.0)
    c["muscle"] = _normal(generator, 0.42 + 0.14 * man - 0.10 * _ramp(c["age"], 60, 85), 0.18, 0.0, 1.0)
    c["proportions"] = _normal(generator, 0.60, 0.18, 0.0, 1.0, count)
    c["bust"] = _normal(generator, 0.40 + 0.20 * c["weight"], 0.18, 0.0, 1.0)


def _skin(c: Columns, generator: np.random.Generator, p: Population, man: np.ndarray) -> None:
    n, age = len(man), c["age"]
    light = 1.0 - _ramp(c["skin_tone"], 0.15, 0.45)
    c["wrinkles"] = _normal(
        generator, 0.03 + 0.85 * _ramp(age, 25, 88), 0.03 + 0.10 * _ramp(age, 25, 60), 0.0, 1.0
    )
    many = generator.random(n) < 0.05 + 0.25 * light
    c["freckles"] = np.where(many, generator.uniform(0.25, 1.0, n), generator.uniform(0.0, 0.12, n))
    c["moles"] = np.clip(generator.gamma(1.5, 0.10, n) + 0.10 * _ramp(age, 40, 80), 0.0, 1.0)
    c["blush"] = _normal(generator, 0.25 + 0.15 * light, 0.17, 0.0, 1.0)
    adult = _ramp(age, 13, 19)
    rates = ("lipstick", p.lipstick_women, p.lips), ("eyeshadow", p.eyeshadow_women, p.lids)
    wears = generator.random(n)
    for name, share, colors in rates:
        worn = wears < share * adult * (0.008 + 0.992 * (1.0 - man))
        c[name] = np.where(worn, generator.uniform(0.35, 1.0, n), generator.uniform(0.0, 0.08, n))
        c[f"{name}_color"] = _choose(generator, np.tile(colors, (n, 1)), COLORS)
        wears = np.where(generator.random(n) < 0.6, wears, generator.random(n))
    dark = np.clip(c["african"] + c["asian"] + _ramp(c["skin_tone"], 0.25, 0.5), 0.0, 1.0)
    c["eye_color"] = _choose(generator, _mix(p.eyes_light, p.eyes_dark, dark), EYE_COLORS)
    c["brow_thickness"] = _normal(generator, 0.40 + 0.16 * man, 0.19, 0.0, 1.0)


def _hair(c: Columns, generator: np.random.Generator, p: Population, man: np.ndarray) -> None:
    n, age = len(man), c["age"]
    weights = _mix(p.hair_women, p.hair_men, man)
    weights *= np.exp(_ramp(c["african"], 0.3, 0.9)[:, None] * np.log(p.hair_african))
    weights *= np.exp(_ramp(age, 45, 75)[:, None] * np.log(p.hair_old))
    weights[:, 0] *= 0.02 + 0.98 * _ramp(age, 16, 30)
    weights[:, 1] *= 2.2 * _ramp(age, 22, 60)
    c["hair_style"] = _choose(generator, weights, HAIR_STYLES)
    natural = (
        c["european"][:, None] * _share(p.hair_european)
        + c["asian"][:, None] * _share(p.hair_asian)
        + c["african"][:, None] * _share(p.hair_black)
    )
    darker = 1.0 - _ramp(c["skin_tone"], 0.25, 0.45)[:, None] * np.array([0, 0, 0.4, 0.9, 0.8, 0.95, 0.97, 0.95])
    color = _choose(generator, natural * darker, HAIR_COLORS[:8])
    dyed = generator.random(n) < p.dyed_share * _ramp(age, 13, 17) * (1.0 - 0.8 * _ramp(age, 35, 65))
    color = np.where(dyed, _choose(generator, np.tile(p.dyed, (n, 1)), HAIR_COLORS), color)
    onset = _normal(generator, p.grey_onset[0], p.grey_onset[1], 22.0, 75.0, n)
    grey = np.clip((age - onset) / p.grey_years, 0.0, 1.0) ** 1.2 + 0.02 * generator.random(n)
    hidden = generator.random(n) < p.grey_hidden[1] + (p.grey_hidden[0] - p.grey_hidden[1]) * man
    grey = np.where(hidden | dyed, 0.04 * generator.random(n), np.clip(grey, 0.0, 1.0))
    whole = (grey > 0.80) & ~hidden
    white = generator.random(n) < _ramp(age, 55, 95)
    names = HAIR_COLORS.index
    c["hair_color"] = np.where(whole, np.where(white, names("white"), names("grey")), color)
    c["hair_grey"] = grey
    c["hair_length"] = _normal(generator, 0.5, 0.21, 0.0, 1.0, n)
    beard = _mix(p.beard_young, p.beard_men, _ramp(age, 19, 26))
    bearded = np.where(man > 0.5, age >= 17.0, generator.random(n) < p.beard_women * (age >= 20))
    c["beard_style"] = np.where(bearded, _choose(generator, beard, BEARD_STYLES), 0)
    c["beard_length"] = _normal(generator, 0.45, 0.21, 0.0, 1.0, n)


def _accessories(c: Columns, generator: np.random.Generator, p: Population, man: np.ndarray) -> None:
    n, age = len(man), c["age"]
    share = np.interp(age, (5, 30, 80), p.glasses_share)
    shapes = _mix(p.glasses_women, p.glasses_men, man)
    worn = generator.random(n) < share
    dark = worn & (generator.random(n) < p.sunglasses_share * _ramp(age, 5, 20))
    shapes[:, 5] *= np.where(dark, 3.0, 0.6)
    c["glasses"] = np.where(worn, _choose(generator, shapes, GLASSES_SHAPES), 0)
    c["glasses_color"] = _choose(generator, np.tile(p.frames, (n, 1)), COLORS)
    c["lenses"] = dark.astype(int)
    hats = _mix(p.hat_women, p.hat_men, man)
    hats[:, 3] *= 0.1 + 0.9 * _ramp(age, 18, 40)
    c["hat"] = np.where(generator.random(n) < p.hat_share, _choose(generator, hats, HATS), 0)
    c["hat_color"] = _choose(generator, np.tile(p.clothes, (n, 1)), COLORS)
    rings = _mix(p.earrings_women, p.earrings_men, man)
    rings[:, 1:] *= (0.15 + 0.85 * _ramp(age, 8, 18))[:, None]
    c["earrings"] = _choose(generator, rings, EARRINGS)


def _clothes(c: Columns, generator: np.random.Generator, p: Population, man: np.ndarray) -> None:
    n, age = len(man), c["age"]
    tops = _mix(p.top_women, p.top_men, man)
    tops[:, 5] *= 0.02 + 0.98 * _ramp(age, 16, 28)
    tops[:, 3] *= 1.6 - 1.4 * _ramp(age, 25, 70)
    c["top"] = _choose(generator, tops, TOPS)
    pinker = np.ones((n, len(COLORS)))
    pinker[:, COLORS.index("pink")] = 2.2 - 1.8 * man
    pinker[:, COLORS.index("purple")] = 1.6 - 1.0 * man
    c["top_color"] = _choose(generator, pinker * p.clothes, COLORS)
    patterns = np.tile(p.patterns, (n, 1)).astype(float)
    patterns[:, 1:] *= np.where(np.isin(c["top"], (3, 4, 5)), 0.35, 1.0)[:, None]
    patterns[:, 3] *= 1.5 - man
    c["top_pattern"] = _choose(generator, patterns, PATTERNS)
    second = pinker * p.clothes
    second[np.arange(n), c["top_color"]] = 0.0
    c["top_pattern_color"] = _choose(generator, second, COLORS)
    c["bottom"] = _choose(generator, _mix(p.bottom_women, p.bottom_men, man), BOTTOMS)
    c["bottom_color"] = _choose(generator, np.tile(p.trousers, (n, 1)), COLORS)
    shoes = _mix(p.shoes_women, p.shoes_men, man)
    formal = c["top"] == TOPS.index("suit")
    shoes[:, 0] *= np.where(formal, 0.10, 1.0)
    shoes[:, 2] *= np.where(formal, 4.0, 0.3 + 0.7 * _ramp(age, 12, 25))
    c["shoes"] = _choose(generator, shoes, SHOES)
    c["shoes_color"] = _choose(generator, np.tile(p.shoe_colors, (n, 1)), COLORS)


def _controls(
    c: Columns,
    generator: np.random.Generator,
    group: str,
    names: tuple[str, ...],
    sd: float,
    sds: dict[str, float],
    links: tuple[tuple[str, tuple[str, ...]], ...],
    means: tuple[tuple[str, str, float], ...],
    signs: Columns,
) -> None:
    n = len(c["age"])
    z = generator.standard_normal((n, len(names)))
    for _, members in links:
        shared = generator.standard_normal(n)
        for name in members:
            k = names.index(name)
            z[:, k] = np.sqrt(0.5) * (z[:, k] + shared)
    z = np.clip(z, -2.6, 2.6)
    for k, name in enumerate(names):
        shift = sum(amount * signs[who] for who, control, amount in means if control == name)
        c[f"{group}.{name}"] = np.clip(z[:, k] * sds.get(name, sd) + shift, -1.0, 1.0)


def _ramp(x: np.ndarray, start: Number, end: Number) -> np.ndarray:
    return np.clip((x - start) / (end - start), 0.0, 1.0)


def _share(weights: Weights) -> np.ndarray:
    return np.array(weights) / sum(weights)


def _mix(first: Weights, second: Weights, amount: np.ndarray) -> np.ndarray:
    """(N, K) shares that go from the first weights (amount 0) to the second (amount 1)."""
    return (1.0 - amount)[:, None] * _share(first) + amount[:, None] * _share(second)


def _choose(generator: np.random.Generator, weights: np.ndarray, choices: tuple[str, ...]) -> np.ndarray:
    """(N,) index of one choice per row, with probability proportional to its weight."""
    assert weights.shape[1] == len(choices), (weights.shape, choices)
    edges = weights.cumsum(1)
    return (generator.random(len(weights))[:, None] * edges[:, -1:] >= edges).sum(1)


def _normal(generator: np.random.Generator, mean, sd, low: Number, high: Number, count: int | None = None):
    """Normal numbers; those outside [low, high] are drawn anew within one deviation, then clipped."""
    n = count if count is not None else len(mean)
    x = mean + sd * generator.standard_normal(n)
    again = mean + sd * np.clip(generator.standard_normal(n), -1.0, 1.0)
    return np.clip(np.where((x < low) | (x > high), again, x), low, high)
