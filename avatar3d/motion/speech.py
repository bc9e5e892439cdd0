"""From the sound of a voice to mouth shapes over time, with nothing but signal processing.

Loudness opens the mouth; the first two resonances of the throat tell vowels apart, the color of a hiss tells
fricatives, short silences inside speech are closed lips. Words are not recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import solve_toeplitz
from scipy.ndimage import gaussian_filter1d, grey_closing, median_filter
from scipy.signal import resample_poly

from avatar3d.render.clips import read_sound

Track = Float[np.ndarray, " N"]

RATE = 16000
HOP = 0.01
"""Seconds between analysed frames."""
WINDOW = 0.03
LONGEST = 600.0
"""Seconds of sound that are read."""
QUIET = 10 ** (-55 / 20)
"""A recording whose loud moments are below this (root mean square, full scale 1) is silent."""
RANGE = 38.0
"""Decibels below the loud moments at which the mouth is shut."""
VOICED = 0.45
"""Normalized autocorrelation above which a frame has a pitch."""
PITCHES = (70.0, 420.0)
DARK = 1300.0
"""Hz: loud frames whose spectrum is centered lower are vowels even when their pitch is unsteady."""
HUMMED = 0.06
"""Share of power above 600 Hz below which soft voiced frames come through the nose."""
LIP_HUM = (280.0, 1300.0)
"""Hz: the first two resonances of m are lower than these; the second of n is higher (Fant 1960)."""
FORMANT_RATE = 10000
ORDER = 10
"""Two poles per kHz (Markel and Gray, "Linear Prediction of Speech", 1976); more would follow high pitches."""
THIRD_FORMANT = 2550.0
"""Of the throat that `VOWELS` are written for, Hz; other throats are scaled to it."""
VOWELS = {
    "viseme_aa": (740.0, 1180.0),
    "viseme_E": (520.0, 1850.0),
    "viseme_I": (300.0, 2280.0),
    "viseme_O": (480.0, 860.0),
    "viseme_U": (310.0, 760.0),
}
"""Typical first and second formants of a low voice, Hz: the corners and middles of the vowel quadrangle."""
BLUR = 0.9
"""Bark within which vowels are taken for one another."""
VISEMES = (
    "viseme_sil", "viseme_PP", "viseme_FF", "viseme_TH", "viseme_DD", "viseme_kk", "viseme_CH", "viseme_SS",
    "viseme_nn", "viseme_RR", "viseme_aa", "viseme_E", "viseme_I", "viseme_O", "viseme_U",
)  # fmt: skip
LEAD = 0.06
"""Seconds by which the mouth is ahead of the sound it is about to make."""
VOWEL_BLEND, CONSONANT_BLEND = 0.045, 0.022
"""Standard deviations, seconds, over which neighboring sounds shape the mouth together (coarticulation)."""
GAPS = (0.03, 0.16)
"""Seconds of silence inside speech that closed lips or tongue make."""


@dataclass(frozen=True)
class Speech:
    """What a mouth does, every `HOP` seconds; already ahead of the sound by `LEAD`."""

    visemes: Float[np.ndarray, "N 15"]
    """Weights of `VISEMES`, summing to one."""
    loudness: Track
    """0 is silence, 1 the loud moments."""
    silent: bool = False
    """Nothing to hear in the whole recording."""

    @property
    def seconds(self) -> float:
        return len(self.loudness) * HOP


def hear(path: Path | str) -> Speech:
    """The speech of an audio file. Silent files give a mouth that stays shut. Raises `SoundFileError`."""
    return analyse(read_sound(path, RATE, LONGEST))


def analyse(sound: Float[np.ndarray, " S"]) -> Speech:
    """The speech of mono samples at `RATE`."""
    frames = _frames(sound, RATE, WINDOW)
    rms = np.sqrt((frames**2).mean(axis=1))
    loud = float(np.quantile(rms, 0.95))
    if loud < QUIET:
        return Speech(_only("viseme_sil", len(rms)), np.zeros(len(rms)), silent=True)
    floor = max(loud * 10 ** (-RANGE / 20), 2.0 * float(np.quantile(rms, 0.03)) if rms.min() > 0 else 0.0)
    floor = min(floor, 0.3 * loud)
    loudness = (np.log(np.maximum(rms, 1e-9) / floor) / np.log(loud / floor)).clip(0.0, 1.0)
    active = loudness > 0.12
    color = _Color.of(frames)
    level = rms / loud
    voiced = active & ((periodicity(frames) > VOICED) | ((color.center < DARK) & (level > 0.25)))
    found = formants(sound, voiced)
    weights = np.zeros((len(rms), len(VISEMES)))
    _add_vowels(weights, found, voiced)
    _add_hisses(weights, color, active & ~voiced, level)
    _add_nasals(weights, color, found, voiced & (level < 0.45))
    _add_closures(weights, active, weights.copy())
    weights[:, 0] = (1 - weights[:, 1:].sum(axis=1)).clip(0, 1)
    return Speech(_blended(weights, loudness), _ahead(gaussian_filter1d(loudness, VOWEL_BLEND / HOP)))


def _only(name: str, count: int) -> Float[np.ndarray, "N 15"]:
    weights = np.zeros((count, len(VISEMES)))
    weights[:, VISEMES.index(name)] = 1.0
    return weights


def _frames(sound: np.ndarray, rate: int, window: float) -> Float[np.ndarray, "N W"]:
    """Frames centered on every `HOP` seconds."""
    size, hop = round(window * rate), round(HOP * rate)
    padded = np.pad(sound, (size // 2, size))
    count = max(1, len(sound) // hop)
    return np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop]


def periodicity(frames: Float[np.ndarray, "N W"]) -> Track:
    """Largest normalized autocorrelation at lags of voices."""
    spectrum = np.fft.rfft(frames - frames.mean(axis=1, keepdims=True), 2 * frames.shape[1])
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:, : frames.shape[1]]
    lags = np.arange(frames.shape[1])
    correlation = correlation / (1 - lags / frames.shape[1])  # fewer products at longer lags
    low, high = (round(RATE / pitch) for pitch in PITCHES[::-1])
    high = min(high, frames.shape[1] * 2 // 3)
    return correlation[:, low:high].max(axis=1) / np.maximum(correlation[:, 0], 1e-12)


def linear_prediction(frame: Float[np.ndarray, " W"], order: int = ORDER) -> Float[np.ndarray, " P"]:
    """Coefficients 1, a_1, ..., a_order of the inverse filter by the autocorrelation method.

    The Toeplitz system is solved by Levinson's recursion (Makhoul 1975, equation 18).
    """
    correlation = np.correlate(frame, frame, "full")[len(frame) - 1 : len(frame) + order]
    correlation = correlation.copy()
    correlation[0] = correlation[0] * (1 + 1e-6) + 1e-12
    return np.concatenate([[1.0], -solve_toeplitz(correlation[:-1], correlation[1:])])


def formants(sound: Float[np.ndarray, " S"], chosen: Bool[np.ndarray, " N"]) -> Float[np.ndarray, "N 3"]:
    """First three resonances in Hz of the chosen frames; NaN where they are not found."""
    slow = resample_poly(sound, FORMANT_RATE, RATE)
    slow = np.append(slow[:1], slow[1:] - 0.95 * slow[:-1])
    frames = _frames(slow, FORMANT_RATE, WINDOW) * np.hamming(round(WINDOW * FORMANT_RATE))
    found = np.full((len(chosen), 3), np.nan)
    for n in np.flatnonzero(chosen[: len(frames)]):
        roots = np.roots(linear_prediction(frames[n]))
        roots = roots[roots.imag > 1e-3]
        frequency = np.angle(roots) * FORMANT_RATE / (2 * np.pi)
        width = -np.log(np.maximum(np.abs(roots), 1e-6)) * FORMANT_RATE / np.pi
        sharp = np.sort(frequency[(width < 600) & (frequency > 180) & (frequency < 4500)])
        if len(sharp) >= 2:
            found[n, : min(3, len(sharp))] = sharp[:3]
    return found


def bark(frequency: np.ndarray) -> np.ndarray:
    """Critical-band rate (Traunmueller 1990)."""
    return 26.81 * frequency / (1960 + frequency) - 0.53


def vowel_shares(found: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 5"]:
    """How much each of `VOWELS` explains the formants; rows sum to one, or to zero without formants."""
    known = np.isfinite(found[:, 1])
    third = found[np.isfinite(found[:, 2]), 2]
    scale = float(np.clip(np.median(third) / THIRD_FORMANT, 0.9, 1.35)) if len(third) >= 5 else 1.0
    targets = bark(np.array(list(VOWELS.values())))
    heard = bark(np.nan_to_num(found[:, :2]) / scale)
    distance = ((heard[:, None] - targets) ** 2 * [1.0, 0.6]).sum(axis=2)
    likely = np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)) / BLUR**2)
    return likely / likely.sum(axis=1, keepdims=True) * known[:, None]


@dataclass(frozen=True)
class _Color:
    """The spectrum of each frame in two numbers."""

    center: Track
    """Mean frequency of the power above 400 Hz."""
    high: Track
    """Share of the power above 600 Hz."""

    @staticmethod
    def of(frames: Float[np.ndarray, "N W"]) -> _Color:
        power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]))) ** 2
        frequency = np.fft.rfftfreq(frames.shape[1], 1 / RATE)
        upper = power * (frequency > 400)
        return _Color(
            (upper * frequency).sum(axis=1) / np.maximum(upper.sum(axis=1), 1e-20),
            power[:, frequency > 600].sum(axis=1) / np.maximum(power.sum(axis=1), 1e-20),
        )


def _add_vowels(weights: np.ndarray, found: np.ndarray, voiced: np.ndarray) -> None:
    """Voiced frames; gaps in the formants of a stretch are bridged, single wrong ones voted down."""
    for start, end in _runs(voiced):
        run = found[start:end]
        missing = ~np.isfinite(run[:, 1])
        if missing.all():
            weights[start:end, VISEMES.index("viseme_E")] = 1.0
            continue
        at = np.arange(end - start)
        for column in (0, 1):
            filled = np.interp(at, at[~missing], run[~missing, column])
            run[:, column] = median_filter(filled, size=5, mode="nearest")
    shares = vowel_shares(found)
    for name, share in zip(VOWELS, shares.T, strict=True):
        weights[:, VISEMES.index(name)] += share


def _add_hisses(weights: np.ndarray, color: _Color, unvoiced: np.ndarray, level: np.ndarray) -> None:
    """Noise without pitch: high and strong is s, lower and strong is sh, weak is f; dark bursts are p and k."""
    names = np.select(
        [color.center < DARK, color.center < 2300, level < 0.06, color.center > 4500],
        ["viseme_PP", "viseme_kk", "viseme_FF", "viseme_SS"],
        "viseme_CH",
    )
    for n in np.flatnonzero(unvoiced):
        weights[n, VISEMES.index(names[n])] = 1.0


def _add_nasals(weights: np.ndarray, color: _Color, found: np.ndarray, soft: np.ndarray) -> None:
    """Hummed frames: of m, whose second resonance is low, the lips are closed; of n the tongue is up."""
    lips = soft & (color.high < 2.5 * HUMMED) & (found[:, 0] < LIP_HUM[0]) & (found[:, 1] < LIP_HUM[1])
    tongue = soft & (color.high < HUMMED) & ~lips
    for name, chosen in (("viseme_PP", lips), ("viseme_nn", tongue)):
        weights[chosen] = 0.0
        weights[chosen, VISEMES.index(name)] = 1.0


def _add_closures(weights: np.ndarray, active: np.ndarray, before: np.ndarray) -> None:
    """Short silences: lips where the sound around is dark, else the tongue (locus theory, Delattre 1955)."""
    dark = [VISEMES.index(name) for name in ("viseme_aa", "viseme_O", "viseme_U")]
    for start, end in _runs(~active):
        if start > 0 and end < len(active) and GAPS[0] <= (end - start) * HOP <= GAPS[1]:
            around = before[max(0, start - 6) : start].sum(axis=0) + before[end : end + 6].sum(axis=0)
            lips = around[dark].sum() > 0.5 * around.sum()
            weights[start:end] = 0.0
            weights[start:end, VISEMES.index("viseme_PP" if lips else "viseme_DD")] = 1.0


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _blended(weights: Float[np.ndarray, "N 15"], loudness: Track) -> Float[np.ndarray, "N 15"]:
    """Neighbors share the mouth; closures and hisses are short and keep their shape; quiet vowels open it less."""
    mixed = weights.copy()
    mixed[:, 10:] *= (0.45 + 0.55 * loudness)[:, None]
    mixed[:, 10:] = gaussian_filter1d(mixed[:, 10:], VOWEL_BLEND / HOP, axis=0)
    spread = grey_closing(mixed[:, 1:10], size=(3, 1))
    mixed[:, 1:10] = gaussian_filter1d(spread, CONSONANT_BLEND / HOP, axis=0)
    consonants = mixed[:, 1:10].sum(axis=1, keepdims=True).clip(0, 1)
    mixed[:, 10:] *= 1 - 0.85 * consonants
    total = mixed[:, 1:].sum(axis=1, keepdims=True)
    mixed[:, 1:] /= np.maximum(total, 1.0)
    mixed[:, 0] = 1 - mixed[:, 1:].sum(axis=1)
    return np.stack([_ahead(column) for column in mixed.T], axis=1)


def _ahead(track: Track) -> Track:
    """The track `LEAD` seconds earlier; the last value stays."""
    steps = round(LEAD / HOP)
    return np.concatenate([track[steps:], np.full(min(steps, len(track)), track[-1])])[: len(track)]


def babble(seconds: float, generator: np.random.Generator) -> Speech:
    """Speech of no language: syllables of a consonant and a vowel, in phrases with pauses."""
    count = max(1, round(seconds / HOP))
    weights, loudness = _only("viseme_sil", count), np.zeros(count)
    consonants = ("viseme_PP", "viseme_FF", "viseme_TH", "viseme_DD", "viseme_kk", "viseme_CH", "viseme_SS",
                  "viseme_nn", "viseme_RR")  # fmt: skip
    at = 0.25
    while at < seconds - 0.6:
        end = min(at + generator.uniform(1.0, 2.4), seconds - 0.35)
        stress = generator.integers(0, 4)
        syllable = 0
        while at < end:
            onset, vowel = generator.uniform(0.05, 0.09), generator.uniform(0.10, 0.20)
            a, b, c = (min(count, round(t / HOP)) for t in (at, at + onset, at + onset + vowel))
            weights[a:b] = _only(str(generator.choice(consonants)), b - a)
            weights[b:c] = _only(str(generator.choice(list(VOWELS))), c - b)
            loudness[a:b] = 0.35
            loudness[b:c] = 0.95 if syllable % 4 == stress else generator.uniform(0.5, 0.75)
            at, syllable = at + onset + vowel, syllable + 1
        at += generator.uniform(0.25, 0.6)
    return Speech(_blended(weights, loudness), _ahead(gaussian_filter1d(loudness, VOWEL_BLEND / HOP)))
