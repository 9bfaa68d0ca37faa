import numpy as np

from fairjax.data.feed import batches

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
POSITIONS = np.arange(49, 9, -1)


def draw(step):
    return np.random.default_rng([7, step]).integers(0, len(POSITIONS), 8)


def test_batches_are_a_function_of_the_step():
    whole = list(batches(IMAGES, draw, POSITIONS, 0, 30))
    assert len(whole) == 30
    for step, batch in enumerate(whole):
        np.testing.assert_array_equal(batch["index"], draw(step))
        np.testing.assert_array_equal(batch["image"], IMAGES[POSITIONS[draw(step)]])
        assert batch["index"].dtype == np.int32
    resumed = list(batches(IMAGES, draw, POSITIONS, 17, 30, threads=4, ahead=2))
    for a, b in zip(whole[17:], resumed, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_parts_of_two_processes_make_the_whole_batch():
    parts = [
        next(batches(IMAGES, draw, POSITIONS, 3, 4, local=s)) for s in (slice(0, 4), slice(4, 8))
    ]
    np.testing.assert_array_equal(np.concatenate([p["index"] for p in parts]), draw(3))


def test_it_can_be_closed_early_and_be_empty():
    feed = batches(IMAGES, draw, POSITIONS, 0, 10_000)
    next(feed)
    feed.close()
    assert list(batches(IMAGES, draw, POSITIONS, 5, 5)) == []
