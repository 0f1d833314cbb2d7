"""All that one exposure tells about its denoised image, with a verdict in plain words."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emdn.denoiser import measure
from emdn.detector import Detector, Estimate
from emdn.scaling import Scaling
from emdn.trust.consistency import Consistency, consistency
from emdn.trust.page import page
from emdn.trust.resolution import Resolution, exposure_resolution
from emdn.trust.risk import (
    Denoise,
    Risk,
    Whiteness,
    noise_error_of,
    residual_whiteness,
)
from emdn.trust.sound import Sound
from emdn.trust.thinning import Thinned, thin
from emdn.trust.uncertainty import Uncertainty, estimated_uncertainty

Floats = NDArray[np.float64]

UNLIKELY = 0.01  # chance, below which it is not believed
FAINT = 2.0  # deviations of the error, below which contrast is no structure
USUAL = 5.0  # times the rate of false alarms, as of detail at an edge
UNUSUAL = 1.5  # times what is usual, from which an error is named
KNOWN = 0.1  # relative standard error, up to which an error counts as known
UNSURE = 0.3  # relative standard error, from which a gain counts as not measured
SHARED = 0.1  # correlation of neighbours, from which it is named


class Finding(NamedTuple):
    """A sentence of the verdict.

    Parameters
    ----------
    level : {"good", "care", "bad"}
        What it means for the reader.
    text : str
        The sentence, with its reason.
    """

    level: Literal["good", "care", "bad"]
    text: str


@dataclass(frozen=True)
class Assessment:
    """What was found out about a denoised image.

    Parameters
    ----------
    noisy, denoised : (H, W) array
        The images, in the same units. Where there is no image to judge, both are as it was
        recorded.
    sound : Sound
        Which pixels are judged, and what stands in for the others.
    detector : Detector
        What an electron does to a pixel.
    estimate : Estimate or None
        Where it was measured, the measurement.
    whiteness : Whiteness
        Of what was taken out.
    consistency : Consistency
        Where electrons are no draw of the denoised image. One that was denoised here is
        of one half of the counts, and is asked about the other half, whose noise it does
        not know; one from elsewhere knows the noise, and few of its faults show.
    uncertainty : Uncertainty or None
        How far off pixels may be; None where the image was denoised elsewhere.
    resolution : Resolution or None
        Detail that the exposure bears out; None likewise.
    """

    noisy: Floats
    denoised: Floats
    sound: Sound
    detector: Detector
    estimate: Estimate | None
    whiteness: Whiteness
    consistency: Consistency
    uncertainty: Uncertainty | None
    resolution: Resolution | None

    @property
    def verdict(self) -> list[Finding]:
        """What the numbers mean, the worst first."""
        found = [_gain(self.estimate), _removed(self.whiteness)]
        if self.uncertainty is None:
            found.append(_agrees(self.consistency))
        else:
            found.append(_predicts(self.consistency))
            found += [_empty(self.uncertainty), _usual(self.uncertainty.risk)]
        order = {"bad": 0, "care": 1, "good": 2}
        return sorted((each for each in found if each), key=lambda each: order[each.level])

    @property
    def numbers(self) -> dict[str, Any]:
        """Values by their names, as JSON holds them; lengths in pixels."""
        at, judged = self.detector, self.sound.judged
        numbers: dict[str, Any] = {
            "gain": at.gain,
            "offset": at.offset,
            "readout_electrons": at.readout,
            "correlation": list(at.correlation),
            "mtf": at.mtf,
            "detector_measured": self.estimate is not None,
            "dose_electrons_per_pixel": at.dose(self.noisy[judged]),
            "share_of_pixels_judged": float(judged.mean()),
            "removed_structure_chance": self.whiteness.chance,
            "inconsistent_share_at_1_percent": self.consistency.alarms(0.01),
            "inconsistent_pixels_for_sure": int(self.consistency.places().sum()),
        }
        if self.estimate is not None:
            errors = ("gain_error", "offset_error", "readout_error", "correlation_error")
            numbers |= {name: getattr(self.estimate, name) for name in errors}
        if self.uncertainty is not None:
            risk = self.uncertainty.risk
            numbers |= {
                "mean_squared_error": risk.mse,
                "mean_squared_error_standard_error": risk.error,
                "mean_squared_error_usual": risk.expected,
                "noise_variance": risk.noise,
                "share_of_noise_kept": risk.kept,
                "uncertainty_median": float(np.nanmedian(self.uncertainty.deviation)),
            }
        if self.resolution is not None:
            pixels = {
                "resolution_halves_pixels": self.resolution.halves.resolution(),
                "resolution_held_out_pixels": self.resolution.held_out.resolution(),
            }
            numbers |= {k: v if isfinite(v) else None for k, v in pixels.items()}
        return numbers | {"verdict": [each._asdict() for each in self.verdict]}


def assess(
    image: ArrayLike,
    denoise: Denoise,
    *,
    mask: ArrayLike | None = None,
    detector: Detector | None = None,
    denoised: ArrayLike | None = None,
    seed: int = 0,
) -> Assessment:
    """Denoise an image and find out how far the result may be believed.

    Parameters
    ----------
    image : (H, W) array
        The noisy image. Masked arrays keep their mask. Pixels that are not finite, hot or
        dead, bars, margins and saturated areas decide nothing, see `Sound`.
    denoise : callable
        Takes an (H, W) image and its detector, and returns the denoised image.
    mask : (H, W) array of bool, optional
        True where a pixel is not to be believed.
    detector : Detector, optional
        What an electron does to a pixel; measured by default.
    denoised : (H, W) array, optional
        A result to look at in place of that of `denoise`, which is then not called: how
        uncertain it is and which detail is borne out remain unknown.
    seed : int
        Of the random numbers by which counts are divided.

    Raises
    ------
    ValueError
        If the image shows no noise and no detector is told, or is too small.
    """
    sound = Sound.of(image, mask)
    noisy = np.asarray(np.ma.getdata(image), np.float64)
    estimate = measure(noisy, mask=~sound.judged) if detector is None else None
    if estimate is not None:
        detector = estimate.detector
    if detector is None:
        raise ValueError("the image shows no noise to measure; tell the gain")
    rng = np.random.default_rng(seed)
    uncertainty = resolution = None
    if denoised is None:
        uncertainty = estimated_uncertainty(
            denoise, sound, detector, rng, noise_error=noise_error_of(estimate)
        )
        found = uncertainty.denoised
        halves = thin(sound.image, detector, 0.5, rng)
        parts = [denoise(*each) for each in zip(halves[:2], halves.detectors, strict=True)]
        images = [each[sound.window] for each in (*halves[:2], *parts)]
        resolution = exposure_resolution(
            Thinned(images[0], images[1], halves.detectors), images[2:]
        )
        agreement = consistency(
            sound._replace(image=halves.second), parts[0], halves.detectors[1]
        )
    else:
        found = sound.beside(denoised)
        agreement = consistency(sound, found, detector)
    return Assessment(
        noisy,
        np.where(sound.judged, found, noisy),
        sound,
        detector,
        estimate,
        residual_whiteness(sound, found, detector),
        agreement,
        uncertainty,
        resolution,
    )


# --------------------------------------------------------------------------- the verdict


def _gain(estimate: Estimate | None) -> Finding | None:
    """Say how well the noise is known."""
    if estimate is None:
        return Finding("good", "The detector was told; it was not measured.")
    at, error = estimate.detector, estimate.gain_error
    shared = max(at.correlation)
    if error is None or error > UNSURE * abs(at.gain):
        text = "The gain could not be measured; tell it, or trust no number of electrons."
        return Finding("care", text)
    if shared > SHARED:
        text = f"Neighbours share their noise (correlation {shared:.2f}), as of a camera."
        return Finding("care", f"{text} It was made white, which the gain stands on.")
    what = "The image holds counts" if estimate.counting else "The gain was measured"
    return Finding("good", f"{what}: one electron adds {abs(at.gain):.4g}.")


def _removed(whiteness: Whiteness) -> Finding:
    """Say whether structure was taken out."""
    if whiteness.chance < UNLIKELY:
        text = "What was removed is no plain noise: structure was lost, or the noise is "
        return Finding(
            "bad", f"{text}stronger than the detector says. Look at the picture."
        )
    return Finding("good", "Nothing recognisable was removed: the residual is plain noise.")


def _agrees(found: Consistency) -> Finding:
    """Say whether the counts are a plausible draw of the denoised image."""
    places = int(found.places(UNLIKELY).sum())
    if places:
        text = (
            f"At {places} pixels the noisy image is no plausible draw of the denoised one."
        )
        return Finding("bad", f"{text} Do not interpret them.")
    return Finding("good", "The noisy image is a plausible draw of the denoised one.")


def _predicts(found: Consistency) -> Finding:
    """Say whether one denoised half of the counts predicts the other half."""
    places = int(found.places(UNLIKELY).sum())
    share = found.alarms(UNLIKELY)
    if places or share > USUAL * UNLIKELY:
        text = (
            f"In {share:.1%} of the image, half of the counts, denoised, does not predict "
        )
        return Finding("care", f"{text}the other half: detail is lost there. See the map.")
    return Finding("good", "Half of the counts, denoised, predicts the other half.")


def _empty(found: Uncertainty) -> Finding | None:
    """Say whether there is anything to see."""
    judged = np.isfinite(found.deviation)
    contrast = float(found.denoised[judged].std())
    error = float(np.sqrt(np.mean(found.deviation[judged] ** 2)))
    if contrast < FAINT * error:
        text = (
            "This field is empty, or its contrast is that of the error: do not interpret "
        )
        return Finding("bad", f"{text}blotches.")
    return None


def _usual(risk: Risk) -> Finding:
    """Say whether the specimen is one of those that the network is good at."""
    excess = risk.mse - risk.expected
    if excess > 3 * risk.error and risk.mse > UNUSUAL * risk.expected:
        times = risk.mse / risk.expected
        text = f"The error is {times:.1f} times that of specimens the network knows: "
        return Finding("care", f"{text}fine detail may be lost.")
    text = "The error is as usual for specimens that the network knows."
    if risk.error > KNOWN * risk.mse:
        found, doubt = (max(each, 0) / risk.noise for each in (risk.mse, risk.error))
        text += (
            f" Its square is {found:.1%} of the noise's variance, which is known to "
            f"+- {doubt:.1%} only."
        )
    return Finding("good", text)


# ----------------------------------------------------------------------------- the page


def as_page(found: Assessment, title: str, footer: str) -> str:
    """Return an assessment as one HTML page."""
    levels = Scaling.fit(found.sound.image)
    ends = levels.offset, levels.offset + levels.span
    removed = found.noisy - found.denoised
    noise = 3 * float(removed[found.sound.judged].std())
    pictures: dict[str, tuple[NDArray, tuple[float, float], str]] = {
        "Before": (found.noisy, ends, "The image as it was recorded."),
        "After": (found.denoised, ends, "The denoised image, in the same grey levels."),
        "Removed": (removed, (-noise, noise), "Noise, if you recognise nothing."),
        "Consistency": (
            found.consistency.excess,
            (-4.0, 4.0),
            "Bright: electrons that the denoised image lacks; dark: some of its own.",
        ),
    }
    if found.uncertainty is not None:
        deviation = found.uncertainty.deviation
        most = float(np.nanmax(deviation))
        caption = (
            f"Standard deviation of the error, from 0 (black) to {most:.3g} (white) in "
            "units of the image."
        )
        pictures["Uncertainty"] = (deviation, (0.0, most), caption)
    curves = {}
    if found.resolution is not None:
        for name, each in (
            ("denoised halves", found.resolution.halves),
            ("with the half that was held out", found.resolution.held_out),
        ):
            curves[name] = (each.frequency, each.correlation)
    return page(
        title,
        verdict=[(each.level, each.text) for each in found.verdict],
        pictures=pictures,
        curves=curves,
        threshold=found.resolution.halves.threshold if found.resolution else 0.0,
        numbers={
            name.replace("_", " "): _in_words(value)
            for name, value in found.numbers.items()
            if name != "verdict"
        },
        footer=footer,
    )


def _in_words(value: Any) -> str:
    """Return a value of a table."""
    if isinstance(value, list):
        return ", ".join(_in_words(each) for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)
