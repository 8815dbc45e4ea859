"""What others make of encoded images: [bytes] → [array[S, S, 3]] on one core, by Pillow, cv2, tf.data and torch."""

import importlib
import io
from collections.abc import Callable, Sequence
from types import ModuleType

import cv2
import numpy as np
import PIL.Image

Decoder = Callable[[], list[np.ndarray]]  # of all images that it was made for

_BATCH = 32


def pillow(encoded: Sequence[bytes], size: int) -> Decoder:
    """Full decode, antialiased bilinear: what the others are held against."""
    return lambda: [_pillow(data, size) for data in encoded]


def _pillow(data: bytes, size: int) -> np.ndarray:
    picture = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR))


def opencv(encoded: Sequence[bytes], size: int, interpolation: int) -> Decoder:
    def decode(data: bytes) -> np.ndarray:
        pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return cv2.resize(pixels, (size, size), interpolation=interpolation)

    return lambda: [decode(data) for data in encoded]


def tf_data(encoded: Sequence[bytes], size: int) -> Decoder | None:
    """decode_jpeg and an antialiased bilinear resize, in batches; None where TensorFlow is not installed."""
    tf = installed("tensorflow")
    if tf is None:
        return None
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    images = tf.data.Dataset.from_tensor_slices(list(encoded)).map(
        lambda data: tf.image.resize(tf.io.decode_jpeg(data, channels=3), (size, size), "bilinear", antialias=True)
    )
    batches = images.batch(_BATCH).with_options(options)
    # Finite, so that nothing is made ahead of time while something else is measured.
    return lambda: [image for batch in batches.as_numpy_iterator() for image in batch]


def torch_loader(encoded: Sequence[bytes], size: int) -> Decoder | None:
    """A DataLoader whose data set decodes by Pillow, in this process; None where torch is not installed."""
    torch = installed("torch")
    if torch is None:
        return None
    torch.set_num_threads(1)

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(encoded)

        def __getitem__(self, index: int) -> np.ndarray:
            return np.array(_pillow(encoded[index], size))

    loader = torch.utils.data.DataLoader(Images(), batch_size=_BATCH)
    return lambda: [image.numpy() for batch in loader for image in batch]


def installed(name: str) -> ModuleType | None:
    """A package that is not among the requirements, or None."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
