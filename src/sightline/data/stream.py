"""The order in which a run reads its rows: seeded, cut for several processes, resumable at any batch.

Owns which row comes when. Knows neither the rows nor what is done with them.
"""

import math
from collections.abc import Mapping
from typing import Self

import numpy

_FIXED = ("num_items", "seed", "batch_size", "drop_last")


class Stream:
    """An iterator over batches of row numbers; each epoch is a new permutation drawn from (seed, epoch).

    `batch_size` is that of all processes together: each global batch is cut into `world_size` neighbouring
    slices, so the order does not depend on how many processes share it. The last batch of an epoch may be
    shorter, and a slice of it empty.

    Example: `list(Stream(3, seed=0, batch_size=2, epochs=1))` is two lists, of two rows and of one.
    """

    def __init__(
        self,
        num_items: int,
        *,
        seed: int,
        batch_size: int,
        epochs: float | None = 1,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Epochs may be a fraction, or None for a stream without end; `drop_last` drops short batches."""
        if num_items < 1:
            raise ValueError("the stream has 0 rows to read; check data.files")
        if batch_size < 1:
            raise ValueError(f"a batch of {batch_size} rows is none; give at least 1")
        if seed < 0:
            raise ValueError(f"the seed is {seed}; give 0 or more")
        if epochs is not None and not (epochs > 0 and math.isfinite(epochs)):
            raise ValueError(f"{epochs} epochs read nothing; give more than 0, or None for no end")
        if drop_last and num_items < batch_size:
            raise ValueError(
                f"{num_items} rows fill no batch of {batch_size} and drop_last drops what is short; "
                "make the batch smaller or keep the last one"
            )
        assert 0 <= rank < world_size
        self._num_items = num_items
        self._seed = seed
        self._batch_size = batch_size
        # Rounded first: 0.1 x 30 is a hair above 3 and must not become 4 rows.
        self._num_reads = None if epochs is None else max(1, math.ceil(round(epochs * num_items, 6)))
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._position = 0
        self._order: tuple[int, numpy.ndarray] | None = None

    @property
    def num_batches(self) -> int | None:
        """How many batches the whole stream has; None when it does not end."""
        if self._num_reads is None:
            return None
        whole_epochs = self._num_reads // self._num_items
        per_epoch = math.ceil(self._num_reads_of(0) / self._batch_size) if whole_epochs else 0
        return whole_epochs * per_epoch + math.ceil(self._num_reads_of(whole_epochs) / self._batch_size)

    def __iter__(self) -> Self:
        """The stream itself: a second loop goes on where the first stopped."""
        return self

    def __next__(self) -> list[int]:
        """This rank's slice of the next global batch."""
        epoch, position = self._epoch, self._position
        if position >= self._num_reads_of(epoch):
            epoch, position = epoch + 1, 0
        stop = min(position + self._batch_size, self._num_reads_of(epoch))
        if position >= stop:
            raise StopIteration
        self._epoch, self._position = epoch, stop
        size = stop - position
        first = position + size * self._rank // self._world_size
        last = position + size * (self._rank + 1) // self._world_size
        return self._permutation(epoch)[first:last].tolist()

    def state(self) -> dict[str, int]:
        """Where the stream stands, as plain JSON; the same on every rank."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "num_items": self._num_items,
            "seed": self._seed,
            "batch_size": self._batch_size,
            "drop_last": int(self._drop_last),
        }

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on from a state; the number of processes and of epochs may differ, what makes the order not."""
        here = self.state()
        for name in _FIXED:
            if state[name] != here[name]:
                raise ValueError(
                    f"the saved stream has {name} {state[name]} and this run has {here[name]}; "
                    "resume with the data and settings that the run began with"
                )
        epoch, position = state["epoch"], state["position"]
        whole = isinstance(epoch, int) and isinstance(position, int)
        if not whole or epoch < 0 or not 0 <= position <= self._num_items:
            raise ValueError(f"the saved stream stands at {position!r} of epoch {epoch!r}, which this run never does")
        self._epoch, self._position = epoch, position

    def _num_reads_of(self, epoch: int) -> int:
        """Rows that this epoch yields, over all ranks."""
        count = self._num_items
        if self._num_reads is not None:
            count = min(count, max(0, self._num_reads - epoch * self._num_items))
        return count - count % self._batch_size if self._drop_last else count

    def _permutation(self, epoch: int) -> numpy.ndarray:
        if self._order is None or self._order[0] != epoch:
            # A bit generator's raw numbers stay the same from one numpy to the next; a shuffle may not.
            bits = numpy.random.PCG64(numpy.random.SeedSequence((self._seed, epoch)))
            self._order = (epoch, numpy.argsort(bits.random_raw(self._num_items), kind="stable"))
        return self._order[1]
