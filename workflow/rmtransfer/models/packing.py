"""Token sequences as rows to compute: no padding, and no token twice where texts begin alike.

Texts that begin alike are a group, in which what they share stands once. Groups stand one after the other in a single row, the
pack. Every token has the position that it has in its own text, and attends to what comes before it there
(:mod:`rmtransfer.models.attention`). A model that packs cannot serve gets padded rows instead, by the same structure.

The gain is that of arXiv 2410.20305 (prefix sharing in preference optimisation).
"""

import inspect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from rmtransfer.models.batching import length_batches, right_padded

PACKED = "packed"  # name of the attention in transformers' registry
_WORTH_SHARING = 4  # tokens; fewer make more segments than they spare


class Node(NamedTuple):
    """Tokens in a row.

    Attributes:
        parent: number of the node that they go on from; -1 where texts begin.
    """

    tokens: tuple[int, ...]
    parent: int = -1


class Group(NamedTuple):
    """Texts that begin alike, as a tree of what they share.

    Attributes:
        nodes: parents before children, the first child right after its parent.
        leaves: of each text, the node that ends it, which is its own.
        members: numbers of the texts.
    """

    nodes: tuple[Node, ...]
    leaves: tuple[int, ...]
    members: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens to compute."""
        return sum(len(node.tokens) for node in self.nodes)


Span = tuple[int, int]  # from a token to before another, of a pack


class VariableLengths(NamedTuple):
    """Segments for :func:`torch.nn.attention.varlen.varlen_attn`.

    Attributes:
        keys: numbers of the tokens whose keys the segments see, one segment after the other; None for all in order.
        cumulative_queries: [segments + 1], in int32; so is ``cumulative_keys``.
    """

    keys: torch.Tensor | None
    cumulative_queries: torch.Tensor
    cumulative_keys: torch.Tensor
    most_queries: int
    most_keys: int


class Segments:
    """Which tokens attend to which: queries in a row, and the keys that they see, of which the last ones are their own.

    Args:
        queries: of each segment, in the order of the row.
        keys: of each segment, spans in the order of the text.
    """

    def __init__(self, queries: Sequence[Span], keys: Sequence[Sequence[Span]]) -> None:
        self.queries, self.keys = queries, keys
        self._counts = [
            (end - start, sum(b - a for a, b in seen)) for (start, end), seen in zip(queries, keys, strict=True)
        ]
        self._masks: dict[int | None, list[torch.Tensor | None]] = {}
        self._varlen: VariableLengths | None = None

    def masks(self, window: int | None, device: torch.device) -> list[torch.Tensor | None]:
        """Which keys each query sees, [queries, keys]; None where those are all up to itself."""
        if window not in self._masks:
            self._masks[window] = [_mask(*counts, window, device) for counts in self._counts]
        return self._masks[window]

    def varlen(self, device: torch.device) -> VariableLengths:
        """The segments as a variable-length attention call wants them."""
        if self._varlen is None:
            queries, keys = zip(*self._counts, strict=True)
            index = None
            if queries != keys:
                index = torch.cat([torch.arange(*span) for seen in self.keys for span in seen]).to(device)
            self._varlen = VariableLengths(
                index, _cumulative(queries, device), _cumulative(keys, device), max(queries), max(keys)
            )
        return self._varlen


class Batch:
    """What one forward pass computes: a pack, or padded rows.

    Attributes:
        members: numbers of the texts in it.
        groups: of a pack; of padded rows, one for each text.
        input_ids: [rows, length]; a pack is one row.
        position_ids: [rows, length], each token's position in its own text.
        attention_mask: [rows, length], 1 for real tokens; None for a pack.
        places: for each text, where its tokens stand in the flattened rows.
        ends: [texts], where the last token of each text stands there.
        tokens: real tokens, shared ones counted once.
        segments: of a pack, which tokens attend to which.
    """

    def __init__(self, groups: Sequence[Group], *, padded: bool = False) -> None:
        self.groups = groups
        self.members = [member for group in groups for member in group.members]
        self.tokens = sum(group.tokens for group in groups)
        self.attention_mask: torch.Tensor | None = None
        queries: list[Span] = []
        keys: list[tuple[Span, ...]] = []
        texts: list[tuple[Span, ...]] = []
        if padded:
            self.input_ids, self.attention_mask = right_padded([group.nodes[0].tokens for group in groups], 0)
            length = self.input_ids.shape[1]
            self.position_ids = torch.arange(length).expand(len(groups), -1)
            texts = [((row * length, row * length + group.tokens),) for row, group in enumerate(groups)]
        else:
            ids: list[int] = []
            positions: list[int] = []
            for group in groups:
                paths: list[tuple[Span, ...]] = []  # to each node, from where its texts begin
                for node in group.nodes:
                    before = paths[node.parent] if node.parent >= 0 else ()
                    own = (len(ids), len(ids) + len(node.tokens))
                    position = sum(end - start for start, end in before)
                    ids += node.tokens
                    positions += range(position, position + len(node.tokens))
                    if before and before[-1][1] == own[0]:  # simply continues its parent, the node before it
                        paths.append((*before[:-1], (before[-1][0], own[1])))
                        queries[-1], keys[-1] = (queries[-1][0], own[1]), paths[-1]
                    else:
                        paths.append((*before, own))
                        queries.append(own)
                        keys.append(paths[-1])
                texts += [paths[leaf] for leaf in group.leaves]
            self.input_ids, self.position_ids = torch.tensor([ids]), torch.tensor([positions])
        self.segments = Segments(queries, keys)
        self.places = [torch.cat([torch.arange(*span) for span in spans]) for spans in texts]
        self.ends = torch.stack([place[-1] for place in self.places])

    def hidden(self, decoder: Any, embeds: torch.Tensor | None = None) -> torch.Tensor:
        """What a decoder without a head makes of the rows, [rows * length, hidden]; of tokens, or of ``embeds``."""
        return decoder(**self.inputs(decoder, embeds)).last_hidden_state.flatten(0, 1)

    def inputs(self, model: Any, embeds: torch.Tensor | None = None) -> dict[str, Any]:
        """Keyword arguments of a model's forward pass."""
        device = model.device
        texts = {"input_ids": self.input_ids.to(device)} if embeds is None else {"inputs_embeds": embeds}
        others = {"position_ids": self.position_ids.to(device), "use_cache": False}
        if self.attention_mask is None:
            return {**texts, **others, "attention_mask": None, "pack": self}
        # A causal model's states of right-padded texts are the same without; one without positions takes none.
        others["attention_mask"] = self.attention_mask.to(device)
        known = inspect.signature(model.forward).parameters
        return {**texts, **{name: value for name, value in others.items() if name in known}}


def group_texts(texts: Sequence[Sequence[int]], tokens_per_batch: int) -> list[Group]:
    """Texts grouped by what they begin with, as far as a group fits into the budget, or is no larger than two texts."""
    order = sorted(range(len(texts)), key=lambda i: tuple(texts[i]))
    common = _common_to_neighbours(texts, order)
    limit = max([tokens_per_batch, *(2 * len(text) for text in texts)])
    groups = []
    runs = [(0, len(order))] if order else []
    while runs:
        first, last = runs.pop()
        least = min(common[first : last - 1], default=_WORTH_SHARING)
        if least >= _WORTH_SHARING:
            group = _tree(texts, order[first:last], common[first : last - 1])
            if group.tokens <= limit or last - first == 1:
                groups.append(group)
                continue
        runs += _parts(common, first, last, max(least, _WORTH_SHARING - 1))
    return groups


def group_of(texts: Sequence[Sequence[int]], first: int = 0) -> Group:
    """Texts as one group, numbered from ``first``, such as the two of a pair."""
    order = sorted(range(len(texts)), key=lambda i: tuple(texts[i]))
    group = _tree(texts, order, _common_to_neighbours(texts, order))
    return group._replace(members=tuple(first + member for member in group.members))


def lone(text: Sequence[int], member: int) -> Group:
    """A text by itself."""
    return Group((Node(tuple(text)),), (0,), (member,))


def packs(groups: Iterable[Group], tokens_per_batch: int) -> Iterator[Batch]:
    """Groups in packs of at most so many tokens, or of one group; the longest first, so that too little memory shows early."""
    pack: list[Group] = []
    size = 0
    for group in sorted(groups, key=lambda g: -g.tokens):
        if pack and size + group.tokens > tokens_per_batch:
            yield Batch(pack)
            pack, size = [], 0
        pack.append(group)
        size += group.tokens
    if pack:
        yield Batch(pack)


def padded_rows(texts: Sequence[Sequence[int]], tokens_per_batch: int) -> Iterator[Batch]:
    """Texts in padded rows of similar length, for a model that packs cannot serve."""
    for batch in length_batches([len(text) for text in texts], tokens_per_batch):
        yield Batch([lone(texts[i], i) for i in batch], padded=True)


def batches(model: Any, texts: Sequence[Sequence[int]], tokens_per_batch: int) -> Iterator[Batch]:
    """Texts as what the model computes: packs if it has their attention, else padded rows."""
    if model.config._attn_implementation == PACKED:
        return packs(group_texts(texts, tokens_per_batch), tokens_per_batch)
    return padded_rows(texts, tokens_per_batch)


def _mask(queries: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    if queries == keys and (window is None or keys <= window):
        return None
    before = keys - queries
    distance = torch.arange(before, keys, device=device)[:, None] - torch.arange(keys, device=device)
    return (distance >= 0) & (distance < (window or keys))


def _cumulative(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)


def _tree(texts: Sequence[Sequence[int]], order: Sequence[int], common: Sequence[int]) -> Group:
    """One group of the texts that ``order`` numbers, neighbours of which share ``common`` tokens."""
    nodes: list[Node] = []
    leaves: dict[int, int] = {}
    runs = [(0, len(order), -1, 0)]
    while runs:
        first, last, parent, depth = runs.pop()
        text = texts[order[first]]
        shared = min(common[first : last - 1], default=len(text))
        if shared > depth:
            nodes.append(Node(tuple(text[depth:shared]), parent))
            parent = len(nodes) - 1
        if last - first == 1:
            leaves[order[first]] = parent
        else:
            parts = _parts(common, first, last, shared + _WORTH_SHARING - 1)
            runs += [(*part, parent, shared) for part in reversed(parts)]
    return Group(tuple(nodes), tuple(leaves[i] for i in sorted(leaves)), tuple(sorted(leaves)))


def _parts(common: Sequence[int], first: int, last: int, least: int) -> list[Span]:
    """A run of texts cut where neighbours share no more than ``least`` tokens."""
    cuts = [i + 1 for i in range(first, last - 1) if common[i] <= least]
    return list(itertools.pairwise([first, *cuts, last]))


def _common_to_neighbours(texts: Sequence[Sequence[int]], order: Sequence[int]) -> list[int]:
    """How many first tokens texts share that follow each other; each keeps one of its own."""
    return [
        min(common_prefix(texts[a], texts[b]), len(texts[a]) - 1, len(texts[b]) - 1)
        for a, b in itertools.pairwise(order)
    ]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
