"""Which structures run together: those of one intensity window for which the same rules hold."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from MedalSLib.inference.class_rules import rules_of
from MedalSLib.run import RunOptions
from MedalSLib.vocabulary import Structure
from MedalSLib.volume.windows import AS_IS, Window


@dataclass(frozen=True)
class Group:
    """Structures that run together.

    Attributes:
        number: Place of the group in the run.
        members: The structures.
        positions: Their positions in the whole run.
        window: Their intensity window.
        options: How they run.
    """

    number: int
    members: tuple[Structure, ...]
    positions: tuple[int, ...]
    window: Window
    options: RunOptions

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the members ("CT_Liver")."""
        return tuple(item.key for item in self.members)

    @property
    def instance(self) -> bool:
        """Whether the members are instance targets."""
        return self.members[0].kind == "instance"


def group_structures(
    structures: Sequence[Structure],
    options: RunOptions,
    windows: Mapping[str, Window],
    prompted: Collection[str] = (),
    text_stages: str = "both",
) -> list[Group]:
    """Divide structures into groups.

    The published policy splits by kind alone, as a challenge case does; the product's by every rule that would
    otherwise spread from one structure to the others, so that asking for one does not change another.

    Args:
        structures: What is asked for.
        options: Choices of the run.
        windows: Intensity window by key; a structure that is not in it sees the image as it is.
        prompted: Keys of the structures that have a mask.
        text_stages: "both", or "first" for a model that uses the first stage alone for a text without a mask.
    """
    apart = text_stages == "first" and options.policy == "product"
    masked = frozenset(prompted) if apart and options.mode != "text" else frozenset()
    parts: dict[tuple[Hashable, ...], list[int]] = {}
    order: dict[Window, int] = {}
    for position, item in enumerate(structures):
        window = windows.get(item.key, AS_IS)
        at = order.setdefault(window, len(order))
        parts.setdefault((at, item.key in masked, *_rule(item, options)), []).append(position)
    quick = replace(options, stages="first", mode="text") if apart else options
    groups = []
    # Windows in the order of the structures, prompted ones last: earlier groups win ties between probabilities.
    for number, (key, positions) in enumerate(sorted(parts.items(), key=lambda part: part[0][:2])):
        members = tuple(structures[position] for position in positions)
        window = windows.get(members[0].key, AS_IS)
        groups.append(Group(number, members, tuple(positions), window, options if key[1] else quick))
    return groups


def _rule(item: Structure, options: RunOptions) -> tuple[Hashable, ...]:
    """Return what a structure must have in common with another one to run with it."""
    if options.policy == "published":
        return (item.kind,)
    rules = rules_of([item.key])
    apart = (rules.unit_spacing, rules.enlarged, rules.first_stage_only, rules.second_stage_only)
    refined = rules.refined_in_stages if item.kind == "instance" else None
    return (item.kind, *apart, refined, rules.region_growth)
