"""Make a template, as the frontend opens it, of a graph in the API's form and a few words on where its nodes stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Graph = Mapping[str, Mapping[str, Any]]
"""The API's form: node ids to ``class_type``, ``inputs`` and ``_meta``."""
Schemas = Mapping[str, Any]
"""The host's node classes by name."""
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SHAPE_OPTIONAL = 7  # of a slot, in the frontend's numbers
SHAPE_LIST = 6
SLOT_PX, WIDGET_PX, LINES_PX, FRAME_PX = 22, 28, 96, 40
GAP_PX, COLUMN_GAP_PX, TITLE_PX, GROUP_PX = 55, 45, 54, 25
WIDTH_PX, COLLAPSED_PX, MOST_ROW_PX = 300, 34, 2470
NOTE_PX, NARROW_NOTE_PX, LETTER_PX = 1000, 320, 6.2
CANVAS_PX, MARGIN_PX = (1600, 1000), (90, 70)
"""What a template should fit into, and what the frontend's bars take of it."""
NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}


@dataclass(frozen=True)
class Group:
    """Nodes that belong together.

    Args:
        title: of the frame around them.
        columns: ids of nodes below each other, column by column.
        color: of the frame.
    """

    title: str
    columns: tuple[tuple[str, ...], ...]
    color: str = "#3f789e"


@dataclass(frozen=True)
class Layout:
    """What a template has beside its graph.

    Args:
        title: its name in the template browser.
        note: what to do with it, Markdown.
        groups: of all nodes, from left to right; those that find no room begin another row.
        sizes: width and height of nodes that are larger than their inputs need, by id.
        models: files to download, by the id of the node that loads them: name, url and folder of each.
        collapsed: ids of nodes that show their title alone.
        has_note_beside: whether the note is a column at the left; else it stands above.
    """

    title: str
    note: str
    groups: tuple[Group, ...]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    models: Mapping[str, tuple[dict[str, str], ...]] = field(default_factory=dict)
    collapsed: tuple[str, ...] = ()
    has_note_beside: bool = False


@dataclass(frozen=True)
class _Input:
    """An input as its node's class has it: name, type, whether it may be left out, and what else the host says of it."""

    name: str
    type: str
    optional: bool
    facts: Mapping[str, Any]
    choices: tuple[Any, ...] = ()

    @property
    def is_widget(self) -> bool:
        return self.type in WIDGETS and not self.facts.get("forceInput")

    @property
    def default(self) -> Any:
        first = self.choices[0] if self.choices else {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(self.type, "")
        return self.facts.get("default", first)


def template_of(graph: Graph, layout: Layout, schemas: Schemas) -> dict[str, Any]:
    """Return a template.

    Args:
        graph: its nodes.
        layout: where they stand.
        schemas: of the host, with all classes of the graph.
    """
    links = _links(graph, schemas)
    sizes = {node: layout.sizes.get(node) or _size(schemas[entry["class_type"]]) for node, entry in graph.items()}
    taken = sizes | {node: (sizes[node][0], COLLAPSED_PX) for node in layout.collapsed}
    places, groups, width, height = _placed(layout.groups, taken)
    nodes = [
        _node(graph, node, order, places[node], sizes[node], links, schemas, layout)
        for order, node in enumerate(_in_order(graph))
    ]
    note = _note(max(int(node) for node in graph) + 1, len(nodes), layout)
    nodes.append(note)
    left, top = -min(note["pos"][0], -GROUP_PX), -min(note["pos"][1], -GROUP_PX - TITLE_PX) + TITLE_PX
    scale = min((CANVAS_PX[0] - MARGIN_PX[0]) / (width + left), (CANVAS_PX[1] - MARGIN_PX[1]) / (height + top))
    scale = math.floor(100 * min(scale, 1.0)) / 100
    offset = [left + round(MARGIN_PX[0] / scale), top + round(MARGIN_PX[1] / scale)]
    return {
        "id": "00000000-0000-0000-0000-000000000000",
        "revision": 0,
        "last_node_id": max(node["id"] for node in nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": [[number, int(a), b, int(c), d, kind] for number, (a, b, c, d, kind) in enumerate(links, 1)],
        "groups": groups,
        "config": {},
        "extra": {"ds": {"scale": scale, "offset": offset}},
        "version": 0.4,
    }


def inputs_of(schema: Any) -> list[_Input]:
    """Return the inputs of a node class in the order in which the frontend makes them."""
    offered = schema.INPUT_TYPES()
    found = []
    for part in ("required", "optional"):
        for name, entry in offered.get(part, {}).items():
            kind, facts = entry[0], entry[1] if len(entry) > 1 else {}
            choices = tuple(kind) if isinstance(kind, list) else tuple(facts.get("options", ()))
            found.append(_Input(name, "COMBO" if isinstance(kind, list) else kind, part == "optional", facts, choices))
    return found


def _links(graph: Graph, schemas: Schemas) -> list[tuple[str, int, str, int, str]]:
    """From node, output, to node, input and type of every link."""
    found = []
    for node, entry in graph.items():
        for place, known in enumerate(inputs_of(schemas[entry["class_type"]])):
            value = entry["inputs"].get(known.name)
            if isinstance(value, list):
                kind = schemas[graph[value[0]]["class_type"]].RETURN_TYPES[value[1]]
                found.append((value[0], value[1], node, place, kind))
    return found


def _node(
    graph: Graph,
    node: str,
    order: int,
    place: tuple[int, int],
    size: tuple[int, int],
    links: Sequence[tuple[str, int, str, int, str]],
    schemas: Schemas,
    layout: Layout,
) -> dict[str, Any]:
    entry, schema = graph[node], schemas[graph[node]["class_type"]]
    numbers = {(to, slot): number for number, (_, _, to, slot, _) in enumerate(links, 1)}
    inputs, values = [], []
    for slot, known in enumerate(inputs_of(schema)):
        link = numbers.get((node, slot))
        shown: dict[str, Any] = {"name": known.name, "type": known.type, "link": link}
        shown |= {"shape": SHAPE_OPTIONAL} if known.optional else {}
        inputs.append(shown | ({"widget": {"name": known.name}} if known.is_widget else {}))
        if known.is_widget:
            given = entry["inputs"].get(known.name, known.default)
            values.append(_handed(graph, given, known.default) if isinstance(given, list) else given)
            values += ["fixed"] if known.facts.get("control_after_generate") else []
            values += ["image"] if known.facts.get("image_upload") else []
    outputs = [
        {
            "name": name,
            "type": kind,
            **({"shape": SHAPE_LIST} if is_list else {}),
            "links": [number for number, link in enumerate(links, 1) if link[:2] == (node, slot)] or None,
        }
        for slot, (name, kind, is_list) in enumerate(_outputs(schema))
    ]
    properties: dict[str, Any] = {"Node name for S&R": entry["class_type"]}
    properties |= {"models": list(layout.models[node])} if node in layout.models else {}
    return {
        "id": int(node),
        "type": entry["class_type"],
        "pos": list(place),
        "size": list(size),
        "flags": {"collapsed": True} if node in layout.collapsed else {},
        "order": order,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "title": entry["_meta"]["title"],
        "properties": properties,
        "widgets_values": values,
    }


def _handed(graph: Graph, link: Sequence[Any], default: Any) -> Any:
    """What a linked widget shows: what it is handed, where the other node's own inputs say it."""
    from comfyui_dci.nodes.host.demo_model import find_subject

    source = graph[link[0]]
    if source["class_type"] == "DCIDemoSubject" and link[1] == 1:
        return find_subject(source["inputs"]["subject"]).class_noun
    value = source["inputs"].get("value", default)
    return default if isinstance(value, list) else value


def _outputs(schema: Any) -> list[tuple[str, str, bool]]:
    kinds = list(schema.RETURN_TYPES)
    names = list(getattr(schema, "RETURN_NAMES", None) or kinds)
    lists = list(getattr(schema, "OUTPUT_IS_LIST", None) or [False] * len(kinds))
    return list(zip(names, kinds, lists, strict=True))


def _in_order(graph: Graph) -> list[str]:
    """Node ids, each after those that it is linked with."""
    done: list[str] = []
    while len(done) < len(graph):
        done += [
            node
            for node, entry in graph.items()
            if node not in done and all(v[0] in done for v in entry["inputs"].values() if isinstance(v, list))
        ]
    return done


def _size(schema: Any) -> tuple[int, int]:
    known = [entry for entry in inputs_of(schema) if not entry.facts.get("hidden")]
    slots = max(sum(not entry.is_widget for entry in known), len(schema.RETURN_TYPES))
    lines = sum(bool(entry.facts.get("multiline")) for entry in known)
    widgets = sum(entry.is_widget for entry in known) - lines
    widgets += sum(bool(entry.facts.get("control_after_generate")) for entry in known)
    return WIDTH_PX, FRAME_PX + slots * SLOT_PX + widgets * WIDGET_PX + lines * LINES_PX


def _placed(
    groups: Sequence[Group], sizes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, tuple[int, int]], list[dict[str, Any]], int, int]:
    """Where each node stands, the frames around groups, and width and height of all of it."""
    places: dict[str, tuple[int, int]] = {}
    frames: list[dict[str, Any]] = []
    x = y = lowest = widest = 0
    for number, group in enumerate(groups, 1):
        widths = [max(sizes[node][0] for node in column) for column in group.columns]
        heights = [sum(sizes[node][1] + GAP_PX for node in column) - GAP_PX for column in group.columns]
        width, height = sum(widths) + COLUMN_GAP_PX * (len(widths) - 1), max(heights)
        if x and x + width > MOST_ROW_PX:
            x, y = 0, lowest + 2 * GROUP_PX + 2 * TITLE_PX
        left = x
        for column, column_width in zip(group.columns, widths):
            top = y
            for node in column:
                places[node] = (left, top)
                top += sizes[node][1] + GAP_PX
            left += column_width + COLUMN_GAP_PX
        bounding = [x - GROUP_PX, y - GROUP_PX - TITLE_PX, width + 2 * GROUP_PX, height + 2 * GROUP_PX + TITLE_PX]
        frames.append({"id": number, "title": group.title, "bounding": bounding, "color": group.color, "flags": {}})
        x += width + 3 * GROUP_PX
        lowest, widest = max(lowest, y + height), max(widest, x)
    return places, frames, widest, lowest + GROUP_PX


def _note(number: int, order: int, layout: Layout) -> dict[str, Any]:
    width = NARROW_NOTE_PX if layout.has_note_beside else NOTE_PX
    letters = int((width - 40) / LETTER_PX)
    height = 64 + sum(19 * (1 + len(line) // letters) + 7 for line in layout.note.splitlines() if line)
    place = [-width - 3 * GROUP_PX, 0] if layout.has_note_beside else [0, -height - 2 * GROUP_PX - 2 * TITLE_PX]
    where = {"id": number, "type": "MarkdownNote", "pos": place, "size": [width, height], "flags": {}}
    state = {"order": order, "mode": 0, "inputs": [], "outputs": [], "title": "How to use this", "properties": {}}
    return where | state | {"widgets_values": [layout.note]} | NOTE_COLOURS
