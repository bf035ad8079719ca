"""The wording of the world's queries, split so that no sentence of the test set is ever trained on.

`{n}` stands for a noun of the class asked for. Every list has three parts: train, val, test.
"""

from typing import TypedDict

from t2s_core.world.classes import Kind


class Wording(TypedDict):
    """Sentences by split."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


FRAMES: Wording = {
    "train": (
        "the {n}", "{n}", "find the {n}", "segment the {n}", "show every {n}", "where is the {n}?", "mark all {n}",
        "outline the {n}", "is there a {n} here?", "all {n} in the image", "highlight each {n}", "point out the {n}",
        "which pixels are {n}?", "draw around any {n}", "please find {n} in this picture", "I am looking for a {n}",
        "give me the {n}", "can you see a {n}?", "map each {n} in the scene", "detect {n}", "please show the {n}",
        "locate every {n} you see", "find all the {n}", "I need the {n}", "I want to see each {n}", "mark any {n}",
        "where can I see a {n}?", "please mark the {n}", "find each {n} here", "do you see any {n}?", "a {n}",
        "any {n}", "segment every {n} in the image", "pick out each {n} in the picture", "show me the {n}",
        "where are the {n}?", "could you find the {n}?", "could you outline every {n}?",
        "would you mark each {n}, please?", "kindly highlight the {n}", "everything that is a {n}",
        "anything that is a {n}", "delineate the {n}", "delineate every {n}", "extract the {n}",
        "extract any {n} from the image", "trace the {n}", "trace the outline of each {n}", "annotate every {n}",
        "identify the {n}", "identify each {n} in this tile", "polygons of {n}", "pixels showing {n}",
        "mask of the {n}", "a mask for every {n}", "{n} only", "just the {n}", "only the {n}, please",
        "{n} in this tile", "spot the {n}", "look for the {n}", "search the image for {n}",
        "tell me about any {n} down there", "what here is a {n}?", "which parts are {n}?", "which areas show a {n}?",
        "return the {n}", "label each {n}", "every {n}", "the location of each {n}", "draw a box around each {n}",
        "separate the {n} from the rest", "the {n} in this aerial photo", "satellite view of a {n}", "target: {n}",
        "{n}, please", "{n}?",
    ),
    "val": ("show me where the {n} is", "select all {n}", "are there any {n} in this image?"),
    "test": (
        "please segment each {n} in the picture", "find any {n} you can see", "mark where the {n} is",
        "I want every {n} here",
    ),
}  # fmt: skip

NOUNS: dict[Kind, tuple[str, ...]] = {
    Kind.LAKE: ("lake", "lakes", "pond"),
    Kind.RIVER: ("river", "rivers", "stream"),
    Kind.FOREST: ("forest", "forests", "wood", "group of trees"),
    Kind.FIELD: ("field", "fields", "farmland", "crop field"),
    Kind.ROAD: ("road", "roads", "street"),
    Kind.BRIDGE: ("bridge", "bridges"),
    Kind.ROOF_RED: ("red roof", "red roofs", "house with a red roof"),
    Kind.ROOF_BLUE: ("blue roof", "blue roofs", "house with a blue roof"),
    Kind.ROOF_WHITE: ("white roof", "white roofs", "house with a white roof"),
    Kind.SOLAR: ("solar farm", "solar farms", "solar panels", "photovoltaic plant"),
    Kind.TANK: ("storage tank", "storage tanks", "round tank", "oil tank"),
    Kind.PITCH: ("sports pitch", "sports pitches", "football pitch", "playing field"),
    Kind.CAR_PARK: ("car park", "car parks", "parking lot"),
    Kind.HARBOUR: ("harbour", "harbours", "dock"),
    Kind.SHIP: ("ship", "ships", "boat", "vessel"),
}
"""Nouns of every split, so that a test is of its sentences."""

TRAIN_NOUNS: dict[Kind, tuple[str, ...]] = {
    Kind.LAKE: (
        "ponds", "tarn", "lagoon", "mere", "loch", "inland lake", "freshwater lake", "small lake", "duck pond",
        "mountain lakes",
    ),
    Kind.RIVER: (
        "streams", "brook", "creek", "brooks and streams", "watercourse", "waterway", "rivulet", "tributary",
        "winding river", "flowing river",
    ),
    Kind.FOREST: (
        "woods", "woodland", "woodlands", "thicket", "copse", "grove of trees", "patch of forest", "pine forest",
        "forested area", "tree stand", "tree cover",
    ),
    Kind.FIELD: (
        "farm field", "farm fields", "crop fields", "arable field", "arable plot", "paddock", "wheat field",
        "ploughed field", "grain field", "cropland", "corn fields",
    ),
    Kind.ROAD: (
        "streets", "motorway", "highway", "highways", "lane", "country road", "main road", "carriageway", "avenue",
        "paved road", "tarmac road",
    ),
    Kind.BRIDGE: (
        "river bridge", "road bridge", "viaduct", "overpass", "flyover", "river crossing", "bridge over the river",
        "bridge deck", "bridges over water",
    ),
    Kind.ROOF_RED: (
        "red rooftop", "red rooftops", "red-roofed house", "building with a red roof", "red tiled roof",
        "red building", "crimson roof", "scarlet roof", "roof of red tiles", "red-roofed buildings",
    ),
    Kind.ROOF_BLUE: (
        "blue rooftop", "blue rooftops", "blue-roofed house", "building with a blue roof", "blue metal roof",
        "blue building", "azure roof", "navy blue roof", "roof of blue sheet", "blue-roofed buildings",
    ),
    Kind.ROOF_WHITE: (
        "white rooftop", "white rooftops", "white-roofed house", "building with a white roof", "white painted roof",
        "white building", "pale white roof", "snow white roof", "roof in plain white", "white-roofed buildings",
    ),
    Kind.SOLAR: (
        "solar panel", "solar park", "solar array", "solar power plant", "photovoltaic array", "photovoltaic panels",
        "solar power station", "pv plant", "pv panels", "solar plant", "array of solar panels",
    ),
    Kind.TANK: (
        "fuel tank", "fuel tanks", "oil tanks", "round tanks", "gas holder", "gasometer", "petroleum tank",
        "cylindrical tank", "liquid storage tank", "petrol tank", "tank farm",
    ),
    Kind.PITCH: (
        "football pitches", "soccer field", "soccer fields", "soccer pitch", "playing fields", "sports ground",
        "sports field", "football field", "rugby pitch", "ball game pitch",
    ),
    Kind.CAR_PARK: (
        "parking lots", "parking area", "parking areas", "parking space", "parking place", "parking ground",
        "car parking area", "public car park", "parking bay", "parking zone",
    ),
    Kind.HARBOUR: (
        "harbor", "harbors", "docks", "marina", "quay", "port basin", "harbour basin", "seaport", "wharf",
        "dock basin",
    ),
    Kind.SHIP: (
        "boats", "vessels", "cargo ship", "cargo boat", "freighter", "ferry", "yacht", "barge", "trawler",
        "sailing boat", "motor boat",
    ),
}  # fmt: skip
"""Further nouns, for training only."""

GROUPS: dict[str, tuple[frozenset[Kind], Wording]] = {
    "water": (
        frozenset({Kind.LAKE, Kind.RIVER, Kind.HARBOUR}),
        {
            "train": (
                "all water", "water", "the water surface", "every body of water", "where would you get wet?",
                "water of any kind", "show all the water", "find water", "where is it wet?", "segment the water",
                "anything wet", "every surface of water", "mark every water surface", "lakes, rivers and harbours",
                "all the water in the image", "where is there water?", "open water of all kinds", "find any water",
                "any kind of water", "whatever is covered by water", "all areas under water", "everything wet",
                "every water area", "all the wet places", "what is water here?", "water bodies", "all water bodies",
                "outline every water body", "both still and flowing water", "lakes and rivers and harbours",
                "every lake, river or harbour", "map the water", "extract the water",
                "delineate all the water", "identify water", "could you find the water?", "which pixels are water?",
                "water pixels", "a mask of the water", "anything that is water", "where could I fill a bucket?",
                "where would a stone sink with a splash?", "everything blue and wet",
                "water, please", "water only",
            ),
            "val": ("mark the water", "all wet areas"),
            "test": ("find all water", "show every water surface", "segment water of any kind"),
        },
    ),
    "building": (
        frozenset({Kind.ROOF_RED, Kind.ROOF_BLUE, Kind.ROOF_WHITE}),
        {
            "train": (
                "buildings", "every building", "where do people live?", "houses", "all roofs", "the homes of people",
                "roofs of any colour", "find the houses", "buildings of any colour",
                "where do families sleep at night?", "all buildings", "find every building", "segment the buildings",
                "where would a family live?", "any house", "houses of every colour", "where do people sleep?",
                "show all buildings", "the buildings", "any building", "building", "house", "whatever has a roof",
                "everything with a roof", "red, blue and white roofs", "roofs of all colours", "roofs",
                "all the roofs in the image", "every roof", "dwellings", "homes", "rooftops", "all rooftops",
                "extract the buildings", "delineate every building", "outline the houses", "identify every building",
                "could you find the houses?", "which pixels are buildings?", "building footprints",
                "footprints of all houses", "where do people have a roof over their heads?",
                "where would the post be delivered?", "built structures with roofs",
                "every home, whatever its colour", "where would you knock on a door?", "a mask of the buildings",
                "buildings only", "map the houses", "houses, please", "where do residents live?",
            ),
            "val": ("all houses", "where are people at home?"),
            "test": ("find all buildings", "every house of any colour", "where would people sleep?"),
        },
    ),
}  # fmt: skip

RELATIONS: dict[str, Wording] = {
    "largest": {
        "train": (
            "the largest {n}", "the biggest {n}", "which {n} is the largest?", "find the biggest {n}",
            "mark the biggest {n}", "the {n} with the largest area", "where is the largest {n}?",
            "segment the biggest {n}", "the {n} that covers the most ground", "the {n} that takes up the most space",
            "largest {n}", "biggest {n}", "outline the largest {n}", "only the biggest {n}",
            "please find the largest {n}", "the most extensive {n}", "which {n} takes up the most pixels?",
            "could you outline the biggest {n}?", "delineate the largest {n}", "the largest {n} of all",
            "pick the {n} with the greatest area",
        ),
        "val": ("show the largest {n}",),
        "test": ("which {n} is the biggest?", "mark the largest {n}"),
    },
    "leftmost": {
        "train": (
            "the leftmost {n}", "the {n} furthest left", "which {n} is on the far left?",
            "find the {n} nearest the left edge", "mark the {n} furthest to the left", "where is the leftmost {n}?",
            "segment the {n} on the far left", "leftmost {n}", "the {n} closest to the left edge",
            "the {n} on the far left", "outline the leftmost {n}", "only the leftmost {n}",
            "please find the {n} furthest to the left", "which {n} starts nearest the left edge?",
            "could you outline the leftmost {n}?", "delineate the leftmost {n}", "the first {n} from the left",
            "pick the {n} at the far left", "the {n} nearest to the left border",
        ),
        "val": ("show the leftmost {n}",),
        "test": ("which {n} is furthest left?", "mark the leftmost {n}"),
    },
    "topmost": {
        "train": (
            "the topmost {n}", "the {n} furthest up", "which {n} is at the very top?",
            "find the {n} nearest the top edge", "mark the {n} furthest to the top", "where is the topmost {n}?",
            "segment the {n} at the very top", "topmost {n}", "the {n} closest to the top edge",
            "the {n} at the very top", "outline the topmost {n}", "only the topmost {n}",
            "please find the {n} furthest to the top", "which {n} starts nearest the top edge?",
            "could you outline the topmost {n}?", "delineate the topmost {n}", "the first {n} from the top",
            "the uppermost {n}", "pick the {n} nearest to the top border",
        ),
        "val": ("show the topmost {n}",),
        "test": ("which {n} is furthest up?", "mark the topmost {n}"),
    },
}  # fmt: skip

RELATED: dict[str, frozenset[Kind]] = {
    "building": GROUPS["building"][0],
    "storage tank": frozenset({Kind.TANK}),
    "solar farm": frozenset({Kind.SOLAR}),
    "field": frozenset({Kind.FIELD}),
    "lake": frozenset({Kind.LAKE}),
    "ship": frozenset({Kind.SHIP}),
    "sports pitch": frozenset({Kind.PITCH}),
}
"""What relations are asked of: things of which a tile often shows two or more."""
