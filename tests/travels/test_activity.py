"""What of a recording is heard: long silence of any kind is left out, speech is not, and nothing else decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_cross_modal, tiny_model, tiny_processor

from lemer import LemerPipeline, LemerProcessor
from lemer.activity_lemer import even_noise, heard_spans, in_recording, join_spans, loud_power, step_power

RATE = 16_000
STEP = 160


def speech(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """A buzz at -20 dBFS whose loudness rises and falls four times a second, like syllables; it begins and ends loud."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 120 * k * time + k * k + seed) / k for k in range(2, 20))
    buzz = tone * (0.55 + 0.45 * np.cos(2 * np.pi * 4 * time))
    return (0.1 * buzz / np.sqrt(np.mean(buzz**2))).astype(np.float32)


def quiet(kind: str, seconds: float, seed: int = 1) -> np.ndarray:
    """Zeros, white noise or low-passed noise; a number is the level of noise in dBFS."""
    count = round(seconds * RATE)
    if kind == "zeros":
        return np.zeros(count, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(count + 200)
    if kind == "room":
        response = 0.89 ** np.arange(200)
        noise, kind = np.convolve(noise, response / np.linalg.norm(response))[200:], "-55"
    return (noise[:count] * 10 ** (float(kind) / 20)).astype(np.float32)


KINDS = ("zeros", "-70", "-60", "-50", "-35", "room")  # -35 is above the threshold, and is known by its evenness


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.5, 2.0])
@pytest.mark.parametrize("place", ["before", "after", "both", "within"])
def test_a_recording_with_silence_is_heard_as_without_it(kind, seconds, place):
    clip, silence = speech(), quiet(kind, seconds)
    middle = 75 * STEP
    longer = {
        "before": [silence, clip],
        "after": [clip, silence],
        "both": [silence, clip, silence],
        "within": [clip[:middle], silence, clip[middle:]],
    }[place]
    longer = np.concatenate(longer)
    heard = join_spans(longer, heard_spans(longer, RATE, 0.0))
    alone = join_spans(clip, heard_spans(clip, RATE, 0.0))
    # Where speech meets silence, a window of 20 ms reads both, so that a step more may be heard on either side. Evenness is
    # seen on 50 ms.
    assert 0 <= len(heard) - len(alone) <= (4 if kind == "-35" else 2) * STEP
    assert np.isin(alone, heard).all()


@pytest.mark.parametrize("decibels", [-30, -20, -10, 6])
def test_a_gain_changes_nothing_of_what_is_heard(decibels):
    clip = np.concatenate([quiet("-50", 1), speech(), quiet("-50", 0.7)])
    assert heard_spans(clip * np.float32(10 ** (decibels / 20)), RATE, 0.0) == heard_spans(clip, RATE, 0.0)


def test_of_uneven_silence_half_is_left_at_the_ends_and_beside_every_part():
    breath = 0.01 * speech(1.0)  # 40 dB below the speech, and no even noise
    clip = np.concatenate([breath, speech(0.5), breath, speech(0.5), breath])
    tight, wide = heard_spans(clip, RATE, 0.0), heard_spans(clip, RATE, 0.2)
    assert wide[0][0] == tight[0][0] - 10 * STEP and wide[-1][1] == tight[-1][1] + 10 * STEP
    gaps = [(start - end) for (_, end), (start, _) in zip(wide, wide[1:], strict=False)]
    assert max(gaps) == max(start - end for (_, end), (start, _) in zip(tight, tight[1:], strict=False)) - 20 * STEP


@pytest.mark.parametrize(
    "clip",
    [np.zeros(8000), quiet("-50", 1), np.sin(np.arange(9000) / 5), np.ones(5000), np.zeros(1), speech(0.5)[:3]],
    ids=["zeros", "noise", "tone", "constant", "one sample", "three samples"],
)
def test_a_recording_without_speech_and_silence_side_by_side_is_heard_whole(clip):
    clip = clip.astype(np.float32)
    assert heard_spans(clip, RATE, 0.0) == [(0, len(clip))]


def test_even_noise_equals_a_slow_loop():
    rng = np.random.default_rng(0)
    power = np.where(rng.random(300) < 0.02, 100.0, 1.0) * rng.uniform(0.9, 1.1, 300)
    power[:5] = power[-5:] = 1000.0
    power[120:180] = rng.uniform(5.0, 500.0, 60)  # uneven, and softer than the ends
    smooth = np.convolve(power, np.full(5, 0.2), "same")
    stretches = [10 * np.log10(smooth[start : start + 40]) for start in range(261)]
    in_even = {step for start, stretch in enumerate(stretches) if np.ptp(stretch) < 6 for step in range(start, start + 40)}
    loud = loud_power(power[[step for step in range(300) if step not in in_even]])
    expected = np.zeros(300, dtype=bool)
    for start, stretch in enumerate(stretches):
        if np.ptp(stretch) < 6 and stretch.max() < 10 * np.log10(loud) - 3:
            expected[start : start + 40] = True
            for step in range(max(0, start - 2), min(300, start + 42)):
                expected[step] |= power[step] < 2 * 10 ** (stretch.max() / 10)
    noise, level = even_noise(power)
    assert np.array_equal(noise, expected) and 0 < expected.sum() < 290 and level == loud


@pytest.mark.parametrize("place", ["both", "within"])
def test_noise_nearly_as_loud_as_the_speech_is_left_out_however_much_of_it_there_is(place):
    clip, noise = speech(), quiet("-30", 20.0)  # 10 dB below the speech, with more energy than it
    parts = [noise, clip, noise] if place == "both" else [clip[: 75 * STEP], noise, clip[75 * STEP :]]
    heard = sum(end - start for start, end in heard_spans(np.concatenate(parts), RATE, 0.0))
    assert 0.7 * len(clip) < heard < 1.1 * len(clip)


def test_half_of_the_energy_lies_in_louder_steps():
    assert loud_power(np.array([0.0, 0.0, 0.0, 1.0, 4.0, 3.0, 1.0])) == 3.0
    assert loud_power(np.zeros(3)) == 0.0


def test_the_power_is_that_of_the_band_of_speech():
    time = np.arange(RATE) / RATE
    inside, hum = (step_power(np.sin(2 * np.pi * hertz * time).astype(np.float32), RATE) for hertz in (1000, 50))
    assert inside.shape == (100,) and hum[50] < 1e-3 * inside[50]


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=5),
    st.integers(0, 199),
)
def test_a_position_among_the_joined_samples_lies_at_the_same_sample_of_the_recording(parts, position):
    spans, end = [], 0
    for gap, length in parts:
        spans.append((end + gap, end + gap + length))
        end = spans[-1][1]
    recording = np.arange(end)
    joined = join_spans(recording, spans)
    position %= len(joined)
    assert in_recording(np.array([position]), spans)[0] == joined[position]
    assert in_recording(np.array([position + 0.5]), spans)[0] == joined[position] + 0.5


# ------------------------------------------------------------------------------------------- in processor and pipeline


def test_without_the_setting_silence_stays():
    clip = np.concatenate([quiet("zeros", 1), speech()])
    batch = tiny_processor()(clip, sampling_rate=RATE, return_tensors="np")
    assert batch["input_values"].shape == (1, len(clip))
    assert tiny_processor().max_silence is None


def test_the_setting_is_saved_and_checked(tmp_path):
    tiny_processor(max_silence=0.25).save_pretrained(tmp_path)
    assert LemerProcessor.from_pretrained(tmp_path).max_silence == 0.25
    with pytest.raises(ValueError, match="max_silence must be a number of seconds of at least 0, or None, got -1"):
        tiny_processor(max_silence=-1)


LOG_MEL = {
    "front_end": "log_mel",
    "mel_normalization": "utterance",
    "mel_mask_bands": 27,
    "mel_mask_share": 0.3,
    "conv_dim": (80, 12, 8),
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 2, 2),
    "feat_extract_norm": "layer",
}


@pytest.mark.parametrize("make", [tiny_model, tiny_cross_modal], ids=["LE-MER", "cross-modal"])
@pytest.mark.parametrize("tower", [{}, LOG_MEL], ids=["waveform", "log-Mel"])
def test_silence_level_and_batch_leave_the_answer_as_it_is(make, tower):
    model, processor = make(modality="speech", speech=tower), tiny_processor(max_silence=0.0)
    pipe = LemerPipeline(model, processor=processor, device="cpu")
    clip = speech()
    silent = np.concatenate([quiet("zeros", 1), clip, quiet("zeros", 2)])
    clips = [silent, np.concatenate([quiet("zeros", 2), silent]), 0.03 * silent, speech(2.5, seed=3)]
    with torch.no_grad():
        alone = [model(**processor(one, sampling_rate=RATE, return_tensors="pt")).logits for one in clips]
        together = model(**processor(clips, sampling_rate=RATE, return_tensors="pt")).logits
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone[1], alone[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone[2], alone[0], atol=1e-2, rtol=1e-2)  # normalisation adds 1e-7 to the variance
    answers = pipe([{"array": one, "sampling_rate": RATE} for one in clips], batch_size=4)
    assert answers[0][0]["heard"] == answers[1][0]["heard"] == pytest.approx(1.5, abs=0.05)


def test_the_answer_says_how_much_was_heard_only_where_something_may_be_left_out():
    pipe = LemerPipeline(tiny_model(), processor=tiny_processor(max_silence=0.0), device="cpu")
    clip = {"array": np.concatenate([speech(1.0), quiet("zeros", 1)]), "sampling_rate": RATE}
    assert pipe({"audio": clip, "text": "you are so late"})[0]["heard"] == pytest.approx(1.0, abs=0.1)
    assert "heard" not in pipe({"text": "you are so late"})[0]
    parts = pipe({"audio": clip, "segments": [(0.0, 0.5), (0.5, 2.0)]})
    assert [part["start"] for part in parts] == [0.0, 0.5] and parts[1]["heard"] == pytest.approx(0.5, abs=0.1)
    old = LemerPipeline(tiny_model(), processor=tiny_processor(), device="cpu")
    assert "heard" not in old({"audio": clip, "text": "you are so late"})[0]
