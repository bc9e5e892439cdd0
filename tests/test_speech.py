"""Speech from sound: vowels by their formants, hisses by their color, silence by nothing, all in time."""

import shutil
import subprocess
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from avatar3d.body.visemes import ARKIT, VRM_PRESETS
from avatar3d.engine.build import build_avatar
from avatar3d.motion.clips import make_clip
from avatar3d.motion.expressions import read_expression, with_expression
from avatar3d.motion.kinematics import MotionError
from avatar3d.motion.play import duration
from avatar3d.motion.speech import HOP, LEAD, RATE, VISEMES, analyse, babble, formants, hear, linear_prediction
from avatar3d.motion.talk import talk_audio
from avatar3d.render.clips import SoundFileError, read_sound
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar

VOWELS = {
    "aa": (730.0, 1090.0, 2440.0),
    "E": (530.0, 1840.0, 2480.0),
    "I": (270.0, 2290.0, 3010.0),
    "O": (450.0, 800.0, 2500.0),
    "U": (300.0, 870.0, 2240.0),
}
"""Three formants of a male voice, rounded."""


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return build_avatar(AvatarSpec(age=30, gender=0.1, seed=1))


def vowel(name: str, seconds: float, pitch: float = 120.0, throat: float = 1.0) -> np.ndarray:
    """Pulses of the glottis through three resonators: the source-filter model (Fant 1960)."""
    sound = np.zeros(round(seconds * RATE))
    sound[:: round(RATE / pitch)] = 1.0
    sound = lfilter([1.0], [1.0, -0.97], sound)
    for frequency, width in zip(VOWELS[name], (60.0, 90.0, 120.0), strict=True):
        radius, angle = np.exp(-np.pi * width / RATE), 2 * np.pi * frequency * throat / RATE
        sound = lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], sound)
    return 0.3 * sound / np.abs(sound).max()


def hiss(low: float, high: float, seconds: float, level: float = 0.1) -> np.ndarray:
    generator = np.random.default_rng(5)
    spectrum = np.fft.rfft(generator.normal(size=round(seconds * RATE)))
    frequency = np.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    sound = np.fft.irfft(spectrum * ((frequency > low) & (frequency < high)), round(seconds * RATE))
    return level * sound / sound.std()


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def strongest(speech, start: float, end: float) -> str:
    """The viseme of the sound from `start` to `end` seconds."""
    rows = slice(round((start - LEAD) / HOP), round((end - LEAD) / HOP))
    return VISEMES[int(speech.visemes[rows].mean(axis=0).argmax())].removeprefix("viseme_")


@pytest.mark.parametrize("name", VOWELS)
@pytest.mark.parametrize(("pitch", "throat"), [(110.0, 1.0), (130.0, 0.97), (210.0, 1.15)])
def test_vowels_are_told_apart(name, pitch, throat):
    speech = analyse(np.concatenate([silence(0.3), vowel(name, 0.5, pitch, throat), silence(0.3)]))
    heard = strongest(speech, 0.4, 0.7)
    assert heard == name or (throat > 1 and {heard, name} == {"O", "U"})  # both are round


@pytest.mark.parametrize("name", VOWELS)
def test_formants_are_those_of_the_filter(name):
    sound = vowel(name, 0.4)
    found = formants(sound, np.arange(40) % 40 == 20)[20]
    assert np.abs(found[:2] - VOWELS[name][:2]).max() < 60


def test_levinson_solves_the_normal_equations():
    frame = np.random.default_rng(3).normal(size=300)
    a = linear_prediction(frame, 6)
    lags = [frame[: len(frame) - k] @ frame[k:] for k in range(7)]
    R = np.array([[lags[abs(i - j)] for j in range(6)] for i in range(6)])
    assert np.allclose(R @ a[1:], -np.array(lags[1:]), atol=1e-2)


def test_hisses_are_told_apart():
    for low, high, name in ((5000, 7900, "SS"), (2400, 4200, "CH")):
        speech = analyse(np.concatenate([vowel("aa", 0.3), hiss(low, high, 0.2), vowel("aa", 0.3)]))
        assert strongest(speech, 0.34, 0.46) == name


def test_a_gap_between_dark_vowels_is_closed_lips():
    speech = analyse(np.concatenate([vowel("aa", 0.3), silence(0.08), vowel("aa", 0.3), silence(0.2)]))
    row = speech.visemes[round((0.34 - LEAD) / HOP)]
    assert VISEMES[int(row.argmax())] == "viseme_PP"


def test_the_mouth_opens_and_closes_in_time():
    speech = analyse(np.concatenate([silence(0.5), vowel("aa", 0.4), silence(0.5)]))
    mouth = speech.visemes[:, VISEMES.index("viseme_aa")]
    open_ = np.flatnonzero(mouth > 0.5 * mouth.max()) * HOP
    assert abs(open_[0] - (0.5 - LEAD)) < 0.05 and abs(open_[-1] - (0.9 - LEAD)) < 0.05


def test_louder_speech_opens_wider():
    quiet = analyse(np.concatenate([0.05 * vowel("aa", 0.4), silence(0.2), vowel("aa", 0.4)]))
    jaw = quiet.visemes[:, VISEMES.index("viseme_aa")]
    assert jaw[10:30].mean() < 0.85 * jaw[65:90].mean()


def test_weights_are_shares():
    for speech in (analyse(hiss(100, 7000, 1.0)), babble(5.0, np.random.default_rng(1)), analyse(vowel("I", 0.1))):
        assert np.allclose(speech.visemes.sum(axis=1), 1.0) and speech.visemes.min() >= -1e-9
        assert (speech.loudness >= 0).all() and (speech.loudness <= 1 + 1e-9).all()


def write_wav(path, sound: np.ndarray, rate: int = RATE):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def test_files_are_read_at_any_rate(tmp_path):
    times = np.arange(44100) / 44100
    path = write_wav(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * times), 44100)
    sound = read_sound(path, RATE, 10.0)
    assert abs(len(sound) - RATE) < 50
    spectrum = np.abs(np.fft.rfft(sound[:RATE]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert 0.45 < np.abs(sound[1000:-1000]).max() < 0.55


def test_silent_files_keep_the_mouth_closed(tmp_path, avatar):
    for noise in (0.0, 3e-4):
        sound = noise * np.random.default_rng(1).normal(size=2 * RATE)
        clip, remarks = talk_audio(avatar, write_wav(tmp_path / "still.wav", sound))
        assert len(remarks) == 1 and "the audio is silent" in remarks[0]
        assert not any(name.startswith(("mouth", "jaw", "tongue")) for name in clip.expressions)
        assert duration(clip) == pytest.approx(2.0, abs=0.05)


def test_faulty_files_are_refused(tmp_path):
    with pytest.raises(SoundFileError, match="no such file"):
        hear(tmp_path / "none.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(SoundFileError, match="is empty"):
        hear(tmp_path / "empty.wav")
    (tmp_path / "noise.mp3").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(SoundFileError, match="can not be read as sound"):
        hear(tmp_path / "noise.mp3")
    write_wav(tmp_path / "short.wav", silence(0.01))
    with pytest.raises(SoundFileError, match=r"less than 0\.05 seconds"):
        hear(tmp_path / "short.wav")
    write_wav(tmp_path / "long.wav", silence(3.0))
    with pytest.raises(SoundFileError, match="longer than 2 seconds"):
        read_sound(tmp_path / "long.wav", RATE, 2.0)


def test_a_speaking_avatar_moves_its_mouth_when_there_is_sound(tmp_path, avatar):
    sound = np.concatenate([silence(0.6), vowel("aa", 0.5), silence(0.6), vowel("U", 0.5), silence(0.6)])
    clip, remarks = talk_audio(avatar, write_wav(tmp_path / "a_u.wav", sound))
    assert remarks == () and set(clip.expressions) <= set(ARKIT)
    times, jaw, pucker = (clip.times.numpy(), *(clip.expressions[n].numpy() for n in ("jawOpen", "mouthPucker")))
    assert jaw[(times > 0.7) & (times < 1.0)].mean() > 0.3 > 0.05 > jaw[(times > 1.25) & (times < 1.5)].mean()
    assert pucker[(times > 1.8) & (times < 2.1)].mean() > 0.4 > 0.05 > pucker[(times > 0.7) & (times < 1.0)].mean()
    again, _ = talk_audio(avatar, tmp_path / "a_u.wav")
    assert all(torch.equal(clip.rotations[j], again.rotations[j]) for j in clip.rotations)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_words_of_a_speaking_machine(tmp_path):
    subprocess.run(["espeak-ng", "-w", tmp_path / "see.wav", "see"], check=True)
    order = [VISEMES[n] for n in hear(tmp_path / "see.wav").visemes.argmax(axis=1)]
    assert order.index("viseme_SS") < order.index("viseme_I")


def test_expressions_are_read():
    assert read_expression("happy") == pytest.approx(VRM_PRESETS["happy"])
    mixed = read_expression("happy=0.5, jawOpen=0.2 ,browInnerUp")
    assert mixed["jawOpen"] == pytest.approx(0.2) and mixed["browInnerUp"] == 1.0
    assert mixed["mouthSmileLeft"] == pytest.approx(0.5 * VRM_PRESETS["happy"]["mouthSmileLeft"])
    for text, fault in (
        ("glad", "no expression 'glad'; use happy"),
        ("happy=2", "from 0 to 1"),
        ("happy=x", "'x'"),
    ):
        with pytest.raises(MotionError, match=fault):
            read_expression(text)


def test_a_worn_face_replaces_the_avatars_own_and_blinks_once(avatar):
    person = replace(avatar, expression={"mouthSmileLeft": 0.5, "eyeSquintLeft": 0.4})
    clip = make_clip("idle", person, seed=1)
    blink = clip.expressions["eyeBlinkLeft"]
    assert blink.max() > 0.95
    squint = clip.expressions["eyeSquintLeft"]
    assert (squint - 0.4 * (1 - blink)).abs().max() < 1e-5
    angry = with_expression(clip, person, read_expression("angry"))
    assert angry.expressions["mouthSmileLeft"].max() == 0
    assert (angry.expressions["browDownLeft"] - 0.9).abs().max() < 1e-6
    relaxed = with_expression(clip, person, {"eyeBlinkLeft": 0.35})
    assert torch.equal(relaxed.expressions["eyeBlinkLeft"], blink.clamp_min(0.35))


def test_waving_keeps_the_smile_that_is_there(avatar):
    person = replace(avatar, expression={"mouthSmileLeft": 0.5})
    clip = make_clip("wave", person)
    assert clip.expressions["mouthSmileLeft"].min() == pytest.approx(0.5)
