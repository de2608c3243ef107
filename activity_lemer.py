"""Which parts of a recording are heard, and which are silence that is left out.

A step of 10 ms is silent where its power is 30 dB or more below that of the loud steps of the same recording. It is silent
also where it lies in 0.4 s or more of even noise: the noise of a room or microphone stays within 6 dB, and speech does not.
Nothing is left of even noise. Beside speech some other silence is left, since soft ends of words are below 30 dB too.

The loud steps are those that have half of the energy of what is not even. So neither a gain nor any amount of silence or of
even noise changes what is heard, and nothing but the recording itself decides. Power is measured between 200 and 4000 Hz,
where speech is louder than the noise of rooms.

This file travels with every checkpoint. Shapes: N samples, P steps.
"""

import numpy as np

STEP = 0.01  # seconds
WINDOW = 0.02  # seconds around the middle of a step, over which its power is measured; two periods of a voice at 100 Hz
BAND = (200.0, 4000.0)  # Hz
SILENT_BELOW = 30.0  # dB below the loud steps
EVEN_SECONDS, EVEN_RANGE, EVEN_BELOW = 0.4, 6.0, 3.0  # even noise: how long, within how many dB, dB below the loud steps
SMOOTHED = 5  # steps; the power of noise varies less over 50 ms, and that of speech hardly does


def step_power(samples: np.ndarray, rate: int) -> np.ndarray:
    """Power (P,) of every step of samples (N,) in the band of speech."""
    step, window = round(STEP * rate), round(WINDOW * rate)
    count, before = -(-len(samples) // step), (window - step) // 2
    after = count * step + window - step - before - len(samples)
    padded = np.pad(samples, (before, after), mode="edge")  # with zeros, a constant offset would be a click at either end
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::step]
    spectrum = np.fft.rfft(frames * np.hanning(window).astype(np.float32), axis=-1)  # (P, bins)
    hertz = np.fft.rfftfreq(window, 1 / rate)
    inside = (hertz >= BAND[0]) & (hertz <= BAND[1])
    return np.square(np.abs(spectrum[:, inside]).astype(np.float64)).sum(-1)


def loud_power(power: np.ndarray) -> float:
    """The power at which the steps (P,) that are louder have half of the energy. Silent steps have none, so none counts."""
    ordered = np.sort(power)
    energy = np.cumsum(ordered)
    return float(ordered[np.searchsorted(energy, energy[-1] / 2)])


def even_noise(power: np.ndarray) -> tuple[np.ndarray, float]:
    """
    Find even noise in steps (P,).

    Returns:
        True (P,) where a step lies in a long stretch of even noise that is below the loud steps, and the power of the loud
        steps. These are steps outside of even stretches where there is enough else, so that no noise is taken for speech
        because there is much of it.
    """
    loud, steps, border = loud_power(power), round(EVEN_SECONDS / STEP), SMOOTHED // 2
    if len(power) < steps or loud == 0:
        return np.zeros(len(power), dtype=bool), loud
    smooth = np.convolve(power, np.full(SMOOTHED, 1 / SMOOTHED), "same")
    decibels = 10 * np.log10(np.maximum(smooth / loud, 1e-12))
    stretches = np.lib.stride_tricks.sliding_window_view(decibels, steps)  # (P - steps + 1, steps)
    highest = stretches.max(-1)
    even = highest - stretches.min(-1) < EVEN_RANGE
    starts = np.flatnonzero(even)
    others = power[~_covered(starts, starts + steps, len(power))]
    speech = loud_power(others) if len(others) >= steps and others.any() else loud
    even &= highest < 10 * np.log10(speech / loud) - EVEN_BELOW
    starts = np.flatnonzero(even)
    # Beside a stretch the smoothed power is that of the speech too. There a step counts that is no louder than the stretch.
    around = np.pad(np.where(even, highest, -np.inf), steps + border - 1, constant_values=-np.inf)
    level = np.lib.stride_tricks.sliding_window_view(around, steps + 2 * border).max(-1)  # (P,)
    beside = power < 2 * loud * 10 ** (level / 10)
    return _covered(starts, starts + steps, len(power)) | beside, speech


def _covered(starts: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
    """True (count,) at the steps that lie in one of the spans, which may reach beyond the steps."""
    edges = np.zeros(count + 1, dtype=np.int64)
    np.add.at(edges, np.clip(starts, 0, count), 1)
    np.add.at(edges, np.clip(ends, 0, count), -1)
    return np.cumsum(edges)[:-1] > 0


def heard_spans(samples: np.ndarray, rate: int, max_silence: float) -> list[tuple[int, int]]:
    """
    The parts of a recording that are left when long silences are cut.

    Args:
        samples: (N,).
        rate: of the samples in Hz.
        max_silence: seconds of a silence that are left: half of it beside either part that is heard, and half of it at the
            ends of the recording. Nothing is left of even noise.

    Returns:
        First sample and the one after the last of every part, in order. A recording without a long silence is one part.
    """
    power, step = step_power(samples, rate), round(STEP * rate)
    noise, level = even_noise(power)
    loud = np.flatnonzero(~noise & (power >= level * 10 ** (-SILENT_BELOW / 10)))
    reach = round(max_silence / 2 / STEP)
    heard = np.concatenate([[0], _covered(loud - reach, loud + reach + 1, len(power)) & ~noise, [0]])
    changes = np.flatnonzero(np.diff(heard))
    return [(int(start) * step, min(int(end) * step, len(samples))) for start, end in changes.reshape(-1, 2)]


def join_spans(samples: np.ndarray, spans: list[tuple[int, int]]) -> np.ndarray:
    """The samples of the parts, one after the other."""
    return samples[slice(*spans[0])] if len(spans) == 1 else np.concatenate([samples[start:end] for start, end in spans])


def in_recording(positions: np.ndarray, spans: list[tuple[int, int]]) -> np.ndarray:
    """Where positions among the joined samples of the parts lie in the recording; positions are samples, whole or not."""
    starts, ends = np.array(spans).T
    before = np.cumsum(ends - starts) - (ends - starts)  # joined samples before each part
    part = np.maximum(np.searchsorted(before, positions, side="right") - 1, 0)
    return positions - before[part] + starts[part]


__all__ = ["heard_spans", "in_recording", "join_spans"]
