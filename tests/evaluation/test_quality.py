import dataclasses

import numpy as np
import pytest
import torch

from schedsearch.data.digits import load_digits
from schedsearch.diffusion.process import DDPMProcess
from schedsearch.evaluation.features import build_extractor
from schedsearch.evaluation.quality import GRID_IMAGES, measure_quality, protocol_digest
from schedsearch.evaluation.real_images.neighbours import load_or_compute_neighbours
from schedsearch.evaluation.real_images.reference import compute_reference
from schedsearch.evaluation.sampling import balanced_labels, generate, starting_noise
from schedsearch.exceptions import TrialError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import DiffusionSettings, SolverSettings

SCHEDULE = ExitSchedule((5, 5, 5, 4, 4, 3, 3, 2, 2, 1))


class Digits:
    fingerprint = "sha256:digits"

    def __init__(self):
        self.images = load_digits().images[:400]
        self.num_images = len(self.images)

    def uint8_batches(self, batch_size):
        yield from self.images.split(batch_size)


@pytest.fixture(scope="module")
def extractor():
    return build_extractor("digits", None)


@pytest.fixture(scope="module")
def reference(extractor):
    return compute_reference(Digits(), extractor)


def test_noise_depends_on_seed_and_index_only():
    few, many = starting_noise(3, 5, (2, 4, 4)), starting_noise(3, 40, (2, 4, 4))
    assert few.dtype == torch.float32
    assert torch.equal(few, many[:5])
    assert not torch.equal(few, starting_noise(4, 5, (2, 4, 4)))
    assert len({tuple(row.flatten().tolist()) for row in many}) == 40
    large = starting_noise(0, 500, (1, 8, 8))
    assert abs(float(large.mean())) < 0.02
    assert abs(float(large.std()) - 1) < 0.02


def test_noise_is_pinned():
    # Published results name a seed, so the numbers behind it may never change.
    noise = starting_noise(0, 2, (1, 1, 2)).flatten().tolist()
    expected = [1.1176220, -1.3871249, 0.4559847, -2.1591032]
    assert noise == pytest.approx(expected, abs=1e-6)


def test_labels_are_balanced():
    assert balanced_labels(23, None) is None
    labels = balanced_labels(23, 10)
    assert labels is not None
    assert labels.dtype == torch.int64
    assert torch.bincount(labels).tolist() == [3, 3, 3] + [2] * 7


@pytest.mark.parametrize("cfg_scale", [1.0, 3.0])
def test_samples_do_not_depend_on_the_batch_size(net, solver, cfg_scale):
    noise, labels = starting_noise(0, 13, net.in_shape), balanced_labels(13, 10)
    whole = generate(net, SCHEDULE, solver, noise, labels, 13, cfg_scale=cfg_scale)
    parts = generate(net, SCHEDULE, solver, noise, labels, 4, cfg_scale=cfg_scale)
    assert whole.shape == (13, 1, 8, 8)
    assert whole.dtype == torch.float32
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    full = generate(net, ExitSchedule.flat(5), solver, noise, labels, 13, cfg_scale=cfg_scale)
    assert not torch.allclose(whole, full, atol=1e-3)


def _measure(net, solver, extractor, reference, **changes):
    arguments = {"seed": 0, "num_samples": 100, "cfg_scale": 1.0, "batch_size": 50} | changes
    return measure_quality(
        net, SCHEDULE, solver, extractor=extractor, reference=reference, **arguments
    )


def test_quality_is_complete_and_repeats_exactly(net, solver, extractor, reference):
    quality = _measure(net, solver, extractor, reference)
    noise, labels = starting_noise(0, 100, net.in_shape), balanced_labels(100, 10)
    pixels = generate(net, SCHEDULE, solver, noise, labels, 100)
    images = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    assert (quality.samples.int() - images[:GRID_IMAGES].int()).abs().max() <= 1
    fake, real = extractor(images).double().numpy(), extractor(Digits().images).double().numpy()
    cov, real_cov = (np.cov(rows, rowvar=False) for rows in (fake, real))
    root = np.sqrt(np.linalg.eigvals(cov @ real_cov).real.clip(min=0)).sum()
    shift = fake.mean(0) - real.mean(0)
    fid = shift @ shift + np.trace(cov) + np.trace(real_cov) - 2 * root
    assert quality.fid == pytest.approx(fid, rel=1e-3)
    kernel = [(a @ b.T / 64 + 1) ** 3 for a, b in ((fake, fake), (real, real), (fake, real))]
    own = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    assert quality.kid == pytest.approx(sum(own) - 2 * kernel[2].mean(), rel=1e-3)
    assert quality.num_samples == 100
    assert quality.samples.shape == (GRID_IMAGES, 1, 8, 8)
    assert quality.samples.dtype == torch.uint8
    assert 0.3 < quality.sample_std < 3
    assert quality.class_accuracy is not None
    right = (extractor.classify(images).argmax(1) == labels).sum()
    assert quality.class_accuracy == int(right) / 100
    again = _measure(net, solver, extractor, reference)
    assert (again.fid, again.kid) == (quality.fid, quality.kid)
    other = _measure(net, solver, extractor, reference, seed=1)
    assert other.fid != quality.fid


def test_fewer_samples_than_the_grid_holds(net, solver, extractor, reference):
    quality = _measure(net, solver, extractor, reference, num_samples=30)
    assert quality.samples.shape[0] == 30


class Replay:
    """A "solver" that returns real digits."""

    num_steps, times, process, wants_variance = 1, (0.0,), DDPMProcess(), False
    wants, cfg_interval, calls_per_step = "eps", None, 1

    def __init__(self, first):
        images = load_digits().images[first : first + 400]
        self.rest = (images.float() / 127.5 - 1).split(50)

    def sample(self, denoiser, noise, step_noise=None):
        batch, self.rest = self.rest[0], self.rest[1:]
        return batch


def test_copies_of_training_images_are_noticed(tmp_path, extractor, reference, net):
    neighbours = load_or_compute_neighbours(Digits(), tmp_path)
    judged = {"num_samples": 400, "neighbours": neighbours}
    copies = _measure(net, Replay(0), extractor, reference, **judged)
    assert (copies.nn_distance, copies.near_copies) == (0.0, 1.0)
    new = _measure(net, Replay(400), extractor, reference, **judged)
    assert copies.fid < new.fid  # FID alone prefers the copies
    assert new.nn_distance > 1.5
    assert new.near_copies < 0.15
    unseen = _measure(net, Replay(400), extractor, reference, num_samples=400)
    assert (unseen.nn_distance, unseen.near_copies) == (None, None)


def test_real_images_score_far_better_than_noise(extractor, reference, net):
    class Identity:
        num_steps, times, process, wants_variance = 1, (0.0,), DDPMProcess(), False
        wants, cfg_interval, calls_per_step = "eps", None, 1

        def sample(self, denoiser, noise, step_noise=None):
            return noise

    real = _measure(net, Replay(400), extractor, reference, num_samples=400)
    noise = _measure(net, Identity(), extractor, reference, num_samples=400)
    assert real.fid < noise.fid / 10
    assert real.kid < noise.kid / 10
    assert real.sample_std == pytest.approx(reference.pixel_std, rel=0.05)
    assert real.reference_std == reference.pixel_std
    assert noise.sample_std == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_diverged_samples_fail_the_trial(net, solver, extractor, reference, bad):
    with torch.no_grad():
        net.labels.weight[3] = bad
    with pytest.raises(TrialError, match="10 of 100 samples are not finite") as caught:
        _measure(net, solver, extractor, reference)
    assert caught.value.stage == "sample"


def test_a_reference_of_other_weights_is_refused(net, solver, extractor, reference):
    other = dataclasses.replace(reference, extractor_sha256="0" * 64)
    with pytest.raises(ValueError, match="would mean nothing"):
        _measure(net, solver, extractor, other)


def test_protocol_digest_changes_with_everything_that_matters():
    base = {
        "extractor_sha256": "a",
        "reference_digest": "b",
        "num_samples": 10,
        "solver": SolverSettings(),
        "diffusion": DiffusionSettings(),
        "seed": 0,
    }
    changed = [
        {"extractor_sha256": "c"},
        {"reference_digest": "c"},
        {"num_samples": 11},
        {"solver": SolverSettings(name="dpm_solver")},
        {"solver": SolverSettings(num_steps=7)},
        {"solver": SolverSettings(spacing="trailing")},
        {"solver": SolverSettings(cfg_scale=1.5)},
        {"solver": SolverSettings(order=3)},
        {"diffusion": DiffusionSettings(prediction="v")},
        {"seed": 1},
    ]
    digests = {protocol_digest(**base)} | {protocol_digest(**{**base, **c}) for c in changed}
    assert len(digests) == len(changed) + 1
    assert all(len(digest) == 16 for digest in digests)
    assert protocol_digest(**base) == protocol_digest(**base)
