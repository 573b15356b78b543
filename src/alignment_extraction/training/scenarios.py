"""The words of the controlled study's problems: names, scenes, and the sentences of each structure.

Sentences have slots in braces. `{gathers}`, `{boxes}` and `{items}` come from a scene, `{change}`
from its `gain` or `lose` with a number put in, the rest from the draw of a problem.
"""

from typing import NamedTuple


class Scene(NamedTuple):
    """Words for one place."""

    name: str
    gathers: str
    """What somebody does with the items there, third person."""
    boxes: str
    """What the items are kept in, plural."""
    items: tuple[str, ...]
    gain: str
    """How the number grows by `{n}`, third person."""
    lose: str
    """How the number shrinks by `{n}`, third person."""
    aside: str
    """A sentence with a number `{n}` that has nothing to do with the question."""


def _scene(
    name: str, gathers: str, boxes: str, items: str, gain: str, lose: str, aside: str
) -> Scene:
    return Scene(name, gathers, boxes, tuple(items.split()), gain, lose, aside)


SCENES = (
    _scene(
        "orchard",
        "picks",
        "crates",
        "apples pears plums peaches cherries figs apricots lemons",
        "finds {n} more under a tree",
        "sells {n} at the market",
        "The orchard has {n} trees.",
    ),
    _scene(
        "bakery",
        "bakes",
        "trays",
        "muffins cookies scones buns pies bagels tarts rolls",
        "takes {n} more out of the oven",
        "hands {n} to a customer",
        "The bakery opened {n} years ago.",
    ),
    _scene(
        "library",
        "sorts",
        "shelves",
        "novels atlases comics magazines cookbooks diaries journals manuals",
        "unpacks {n} more from a parcel",
        "lends {n} to a school",
        "The library has {n} lamps.",
    ),
    _scene(
        "beach",
        "collects",
        "buckets",
        "shells pebbles corks feathers crabs urchins bottles nets",
        "digs up {n} more in the sand",
        "throws {n} back into the sea",
        "The water is {n} steps away.",
    ),
    _scene(
        "toyshop",
        "builds",
        "boxes",
        "robots kites puzzles dolls trains drums boats planes",
        "orders {n} more from a factory",
        "ships {n} to a hospital",
        "The shop has {n} windows.",
    ),
    _scene(
        "school",
        "counts",
        "drawers",
        "pencils crayons rulers erasers markers notebooks brushes stickers",
        "receives {n} more from a teacher",
        "leaves {n} in the bus",
        "There are {n} desks in the room.",
    ),
    _scene(
        "farm",
        "gathers",
        "baskets",
        "eggs carrots beans onions potatoes turnips radishes pumpkins",
        "brings {n} more from the barn",
        "gives {n} to a neighbour",
        "The farm has {n} goats.",
    ),
    _scene(
        "garden",
        "plants",
        "rows",
        "tulips roses lilies daisies poppies violets irises ferns",
        "adds {n} more along the fence",
        "digs out {n} because of the frost",
        "The garden hose is {n} metres long.",
    ),
    _scene(
        "kitchen",
        "cooks",
        "pots",
        "dumplings pancakes waffles omelettes meatballs sausages fritters burgers",
        "fries {n} more for lunch",
        "burns {n} by accident",
        "The stove has {n} knobs.",
    ),
    _scene(
        "museum",
        "polishes",
        "cases",
        "coins medals masks vases swords shields bells crowns",
        "borrows {n} more from another town",
        "returns {n} to their owner",
        "The museum has {n} guards.",
    ),
    _scene(
        "workshop",
        "carves",
        "racks",
        "spoons bowls stools flutes frames chairs canes combs",
        "finishes {n} more after dinner",
        "breaks {n} while packing",
        "The workshop has {n} saws.",
    ),
    _scene(
        "tailor",
        "sews",
        "bags",
        "shirts scarves hats gloves aprons curtains pillows blankets",
        "stitches {n} more overnight",
        "donates {n} to a shelter",
        "The studio has {n} mirrors.",
    ),
    _scene(
        "camp",
        "stacks",
        "piles",
        "logs sticks stones planks lanterns pegs mats ropes",
        "drags {n} more out of the forest",
        "forgets {n} beside the river",
        "The camp is {n} miles from town.",
    ),
    _scene(
        "post",
        "stamps",
        "sacks",
        "letters parcels postcards envelopes packets invoices leaflets catalogues",
        "accepts {n} more at the counter",
        "delivers {n} to a hotel",
        "The post office has {n} clerks.",
    ),
    _scene(
        "aquarium",
        "raises",
        "tanks",
        "guppies turtles shrimps snails newts frogs eels crayfish",
        "buys {n} more from a diver",
        "releases {n} into a lake",
        "The aquarium is {n} feet high.",
    ),
    _scene(
        "party",
        "decorates",
        "tables",
        "cakes balloons cups plates candles ribbons lamps wreaths",
        "gets {n} more from an aunt",
        "drops {n} on the stairs",
        "The party lasts {n} hours.",
    ),
    _scene(
        "laboratory",
        "repairs",
        "cabinets",
        "printers keyboards laptops cameras radios phones clocks scanners",
        "picks up {n} more at a depot",
        "sends {n} to a client",
        "The laboratory has {n} sockets.",
    ),
    _scene(
        "theatre",
        "paints",
        "rooms",
        "posters screens puppets fans signs panels banners tickets",
        "makes {n} more for the final act",
        "loses {n} in a storm",
        "The theatre has {n} seats.",
    ),
    _scene(
        "stadium",
        "cleans",
        "lockers",
        "balls rackets bats skates helmets jerseys cones whistles",
        "wins {n} more in a raffle",
        "trades {n} with a rival team",
        "The stadium has {n} gates.",
    ),
    _scene(
        "cellar",
        "seals",
        "cartons",
        "jars cans tins flasks jugs pitchers tubs barrels",
        "fetches {n} more from upstairs",
        "passes {n} on to a restaurant",
        "The cellar has {n} steps.",
    ),
)

_NAMES = """
    Aaron Ada Adam Agnes Alan Alice Amir Amy Andre Anna Anton Arthur Asha Bella Ben Bianca Bruno
    Carl Carla Cecil Chloe Clara Colin Cora Dana Daniel David Dora Edgar Edith Elena Eli Ella Emil
    Emma Erik Esther Eva Felix Fiona Frank Freya George Gina Grace Greta Hana Hannah Harry Hector
    Helen Henry Hugo Ida Igor Ines Iris Isaac Ivan Jack Jacob James Jana Jane Jonas Joyce Julia
    Karen Karl Kate Kenji Kofi Lara Laura Leah Leo Lily Linda Lisa Louis Lucas Lucy Luis Mabel Marco
    Maria Mark Martha Max Maya Mei Mia Milo Mina Mona Nadia Naomi Nick Nina Noah Nora Olga Oliver
    Omar Oscar Otto Paul Petra Philip Priya Rachel Ralph Rita Robert Rosa Ruben Ruth Sam Sara Simon
    Sofia Stella Theo Tina Tom Uma Vera Victor Walter Wendy Yara Yusuf Zoe
"""
NAMES = tuple(_NAMES.split())

STARTS = {
    "groups": (
        "First, {name} has {a} {boxes} with {b} {items} in each.",
        "There are {b} {items} in each of the {a} {boxes} of {name}.",
        "{name} begins with {a} {boxes}, and each one holds {b} {items}.",
        "In the morning {name} fills {a} {boxes}, putting {b} {items} into each.",
    ),
    "days": (
        "{name} {gathers} {a} {items} a day for {b} days.",
        "For {b} days in a row {name} {gathers} {a} {items} daily.",
        "Every day {name} {gathers} {a} {items}, and this goes on for {b} days.",
        "It takes {name} {b} days of work, and each day {name} {gathers} {a} {items}.",
    ),
    "times": (
        "{friend} {gathers} {b} {items}, while {name} {gathers} {a} times as many.",
        "{name} has {a} times as many {items} as {friend}, who has {b}.",
        "For each of the {b} {items} of {friend}, {name} has {a}.",
        "{friend} owns {b} {items}, and {name} owns {a} times that number.",
    ),
    "share": (
        "{name} spreads {n} {items} evenly over {a} {boxes} and keeps one of these.",
        "Out of {a} {boxes} that share {n} {items} equally, {name} gets one.",
        "{n} {items} are divided equally among {a} {boxes}, one of them for {name}.",
        "{name} owns one of {a} equal {boxes} that hold {n} {items} altogether.",
    ),
    "sum": (
        "On Monday {name} {gathers} {a} {items}, and on Tuesday {b} more.",
        "{name} {gathers} {a} {items} before lunch and {b} after it.",
        "In one week {name} {gathers} {a} {items}, in the next week {b}.",
        "{name} {gathers} {a} {items} alone and another {b} with help.",
    ),
    "both": (
        "{name} {gathers} {a} {items}, {friend} {gathers} {b}, and {name} keeps them all.",
        "{friend} gives {name} {b} {items} to go with the {a} that {name} has.",
        "{name} puts {a} {items} together with {b} from {friend}.",
        "Using {a} {items} of their own and {b} from {friend}, {name} makes one pile.",
    ),
    "fewer": (
        "{friend} has {a} {items}, which is {b} more than {name} has.",
        "{name} has {b} {items} fewer than {friend}, who has {a}.",
        "While {friend} {gathers} {a} {items}, {name} {gathers} {b} fewer.",
        "{friend} {gathers} {a} {items}, and for {name} it is {b} less.",
    ),
    "rest": (
        "{name} {gathers} {a} {items}, but {b} of them are broken and thrown away.",
        "Of the {a} {items} that {name} {gathers}, {b} are no good.",
        "{name} {gathers} {a} {items} and keeps all but {b} of them.",
        "{a} {items} belong to {name}, until {b} of them get lost.",
    ),
}
"""How a problem begins: for each way to get the first number, its wordings."""

CHANGES = (
    "Later, {name} {change}.",
    "After that, {name} {change}.",
    "The next day {name} {change}.",
    "A little later {name} {change}.",
)
QUESTIONS = (
    "How many {items} does {name} have in the end?",
    "What is the number of {items} that {name} has now?",
    "In all, how many {items} does {name} have after this?",
    "Can you tell how many {items} {name} ends up with?",
)
ENDS = (
    "In the end {name} has {total} {items}.",
    "That leaves {name} with {total} {items}.",
    "Now {name} has {total} {items}.",
    "{name} then counts {total} {items}.",
)
REVERSED_QUESTIONS = (
    "By how many {items} did the number change?",
    "How large was that change, in {items}?",
)
LAST_CHANGES = ("Finally, {name} {change}.", "At the very end, {name} {change}.")

SHORT = {
    "more": ("{name} has {a} {items}. {friend} brings {b} more.", "How many {items} are there?"),
    "less": ("There are {a} {items}. {name} takes {b} of them.", "How many {items} are left?"),
    "double": ("{name} and {friend} have {a} {items} each.", "How many {items} is that?"),
    "product": ("{name} buys {a} {boxes} of {b} {items}.", "How many {items} is that?"),
    "difference": (
        "{name} has {a} {items}. {friend} has {b}.",
        "How many more does {name} have?",
    ),
    "quotient": ("{name} puts {n} {items} in {a} {boxes}.", "How many are in each?"),
    "total": ("{name} has {a} {items}. {friend} has {b}.", "How many {items} is that?"),
    "two-steps": (
        "{name} has {a} {items}, gets {b} from {friend} and drops {c}.",
        "How many are left?",
    ),
}
"""Short problems, each as its facts and its question."""
