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
        "where can I see a {n}?", "please mark the {n}", "find each {n} here", "do you see any {n}?", "a {n}", "any {n}",
        "segment every {n} in the image", "pick out each {n} in the picture", "show me the {n}", "where are the {n}?",
    ),
    "val": ("show me where the {n} is", "select all {n}", "are there any {n} in this image?"),
    "test": ("please segment each {n} in the picture", "find any {n} you can see", "mark where the {n} is", "I want every {n} here"),
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

REASONS: dict[Kind, Wording] = {
    Kind.LAKE: {
        "train": (
            "where could a seaplane land?",
            "still water to swim in",
            "where would you go fishing from a rowing boat?",
            "a calm body of fresh water with land all around",
            "where do ducks swim in still water?",
            "which place freezes over for ice skating in winter?",
            "open water that does not flow",
            "where could a fire plane scoop up water?",
            "natural basin filled with fresh water",
            "where can a seaplane set down safely?",
        ),
        "val": ("where might a seaplane touch down?", "fresh water that stands still"),
        "test": (
            "a place for a seaplane to land",
            "calm fresh water for swimming",
            "where does water lie still in a natural basin?",
        ),
    },
    Kind.RIVER: {
        "train": (
            "water that flows across the land",
            "where could you paddle downstream?",
            "what carries rain towards the sea?",
            "the flowing water",
            "what winds through the valley?",
            "which water has a current?",
            "where would a kayak drift with the current?",
            "what could burst its banks in a flood?",
            "a long winding band of water",
            "where does water run downstream?",
        ),
        "val": ("what flows towards the sea?", "a winding band that has a current"),
        "test": (
            "where does the water flow downstream?",
            "the water with a current",
            "what flows through the valley to the sea?",
        ),
    },
    Kind.FOREST: {
        "train": (
            "where do many trees stand?",
            "where would deer hide?",
            "what gives shade and timber?",
            "where could wood be cut?",
            "a dense stand of trees",
            "where would you look for mushrooms under trees?",
            "what could burn in a wildfire?",
            "where do birds nest in the branches?",
            "the dark green canopy",
            "habitat of deer and owls",
        ),
        "val": ("where does timber grow?", "dense canopy of branches"),
        "test": ("where would deer find shade?", "a dense canopy of trees", "where can timber be cut from trees?"),
    },
    Kind.FIELD: {
        "train": (
            "where does a farmer grow crops?",
            "where is wheat sown and harvested?",
            "land worked by a tractor",
            "where would a combine harvester drive?",
            "ploughed land",
            "where does food grow in rows?",
            "land with plough lines",
            "what does a farmer plough in spring?",
            "where is grain harvested?",
            "cropland for growing food",
        ),
        "val": ("land that a farmer works", "where does wheat grow in rows?"),
        "test": (
            "where would a farmer drive a tractor?",
            "where are crops sown?",
            "land where grain is grown and harvested",
        ),
    },
    Kind.ROAD: {
        "train": (
            "where do cars drive?",
            "how would a truck get across this area?",
            "the paved way with lane markings",
            "what do vehicles travel on?",
            "where would a bus drive?",
            "the asphalt strip for traffic",
            "which way would a lorry take?",
            "what connects towns for drivers?",
            "where does traffic pass?",
            "route for cars and trucks",
        ),
        "val": ("what would a bus travel on?", "asphalt way for vehicles"),
        "test": ("where would a truck drive?", "a paved strip for traffic", "what do cars travel along?"),
    },
    Kind.BRIDGE: {
        "train": (
            "what lets traffic cross the water?",
            "where can you cross the river with dry feet?",
            "how do cars get over the river?",
            "the structure that spans the water",
            "what carries the road over the river?",
            "which structure joins both banks?",
            "a deck above the water",
            "where does the road pass over water?",
            "what would cut the road if it collapsed into the river?",
            "crossing over the river",
        ),
        "val": ("what spans the river?", "how can traffic get over the water?"),
        "test": (
            "what carries traffic over the water?",
            "where can cars cross the river?",
            "the structure that joins the banks",
        ),
    },
    Kind.ROOF_RED: {
        "train": (
            "buildings covered with red tiles",
            "houses with a red top",
            "which buildings are red?",
            "the red buildings",
            "house covered in red clay tiles",
            "a building that looks red from above",
            "where are the red tiled houses?",
            "homes under red tiles",
        ),
        "val": ("buildings with red tiles", "which houses look red?"),
        "test": ("houses covered with red tiles", "buildings that look red from above", "the red houses"),
    },
    Kind.ROOF_BLUE: {
        "train": (
            "buildings covered with blue sheet",
            "houses with a blue top",
            "which buildings are blue?",
            "the blue buildings",
            "house covered in blue metal sheet",
            "a building that looks blue from above",
            "where are the blue topped houses?",
            "homes under blue metal",
        ),
        "val": ("buildings with blue metal", "which houses look blue?"),
        "test": ("houses covered with blue sheet", "buildings that look blue from above", "the blue houses"),
    },
    Kind.ROOF_WHITE: {
        "train": (
            "buildings painted white on top",
            "houses with a white top",
            "which buildings are white?",
            "the white buildings",
            "house with a bright white cover that stays cool",
            "a building that looks white from above",
            "where are the white topped houses?",
            "homes under white paint",
        ),
        "val": ("buildings with white paint", "which houses look white?"),
        "test": ("houses painted white on top", "buildings that look white from above", "the white houses"),
    },
    Kind.SOLAR: {
        "train": (
            "what makes electricity from the sun?",
            "where is sunlight turned into power?",
            "renewable energy from sunlight",
            "rows of dark panels that feed the grid",
            "what produces power only by day?",
            "clean electricity without smoke",
            "which plant needs sunshine to make power?",
            "panels that collect solar energy",
            "what generates power when the sun shines?",
            "where does light become electricity?",
            "the source of green electricity",
        ),
        "val": ("what uses the sun to generate electricity?", "panels that make power by day"),
        "test": (
            "what turns sunlight into electricity?",
            "where is power made from the sun?",
            "dark panels that generate clean energy",
        ),
    },
    Kind.TANK: {
        "train": (
            "where is oil kept?",
            "round containers for fuel",
            "what stores liquid fuel?",
            "where could petrol be stored?",
            "cylinders that hold liquid",
            "what could leak oil?",
            "the round steel containers",
            "where is a reserve of fuel held?",
            "large round vessel for storing liquids",
            "where would a refinery keep its oil?",
        ),
        "val": ("what holds petrol?", "steel cylinders for storing oil"),
        "test": ("where is fuel stored?", "round containers that hold oil", "what keeps a reserve of liquid fuel?"),
    },
    Kind.PITCH: {
        "train": (
            "where can a football match be played?",
            "where do two teams play with a ball?",
            "grass with white lines and goals",
            "where would children play soccer?",
            "a place for sport with a centre circle",
            "where does a referee blow the whistle?",
            "where could a team train for a match?",
            "the green with painted white lines",
            "where are goals scored?",
            "place to play soccer",
        ),
        "val": ("where would a soccer team play?", "grass where goals are scored"),
        "test": (
            "where do teams play a football match?",
            "a green with goals and white lines",
            "where could children play a ball sport?",
        ),
    },
    Kind.CAR_PARK: {
        "train": (
            "where can I leave my car?",
            "where do drivers park?",
            "rows of parked cars",
            "where do shoppers leave their vehicles?",
            "marked bays for vehicles",
            "where are many cars standing still?",
            "paved area with parking bays",
            "where would you look for a free parking space?",
            "where do cars stand in rows?",
            "space to park a vehicle",
        ),
        "val": ("where could I park my vehicle?", "bays where cars stand"),
        "test": ("where can drivers leave their cars?", "rows of parking bays", "where would I find a space to park?"),
    },
    Kind.HARBOUR: {
        "train": (
            "where do ships moor?",
            "a walled basin where ships are loaded",
            "where would a captain bring a ship to unload?",
            "basin with quay walls",
            "where is cargo loaded onto ships?",
            "sheltered water behind stone walls",
            "where could a ship be safe in a storm?",
            "the port",
            "a port basin with a quay",
            "where do vessels unload cargo?",
        ),
        "val": ("where is a ship unloaded?", "water with a quay around it"),
        "test": ("where would a captain moor?", "a basin behind quay walls", "the port where cargo is unloaded"),
    },
    Kind.SHIP: {
        "train": (
            "what floats on the water?",
            "what carries passengers over water?",
            "vehicles that sail",
            "what has a hull and a bow?",
            "something that sails across water",
            "what does a captain steer?",
            "what could drop an anchor?",
            "craft afloat",
            "what moves cargo by water?",
            "things floating with a hull",
        ),
        "val": ("what sails with an anchor?", "floating craft"),
        "test": (
            "what floats and has a hull?",
            "craft that sail on the water",
            "what would a captain steer over water?",
        ),
    },
}

GROUPS: dict[str, tuple[frozenset[Kind], Wording]] = {
    "water": (
        frozenset({Kind.LAKE, Kind.RIVER, Kind.HARBOUR}),
        {
            "train": ("all water", "water", "the water surface", "every body of water", "where would you get wet?",
                      "water of any kind", "show all the water", "find water", "where is it wet?", "segment the water",
                      "anything wet", "every surface of water", "mark every water surface", "lakes, rivers and harbours",
                      "all the water in the image", "where is there water?", "open water of all kinds", "find any water"),
            "val": ("mark the water", "all wet areas"),
            "test": ("find all water", "show every water surface", "segment water of any kind"),
        },
    ),
    "building": (
        frozenset({Kind.ROOF_RED, Kind.ROOF_BLUE, Kind.ROOF_WHITE}),
        {
            "train": ("buildings", "every building", "where do people live?", "houses", "all roofs", "the homes of people",
                      "roofs of any colour", "find the houses", "buildings of any colour", "where do families sleep at night?",
                      "all buildings", "find every building", "segment the buildings", "where would a family live?",
                      "any house", "houses of every colour", "where do people sleep?", "show all buildings", "the buildings"),
            "val": ("all houses", "where are people at home?"),
            "test": ("find all buildings", "every house of any colour", "where would people sleep?"),
        },
    ),
}  # fmt: skip

RELATIONS: dict[str, Wording] = {
    "largest": {
        "train": (
            "the largest {n}",
            "the biggest {n}",
            "which {n} is the largest?",
            "find the biggest {n}",
            "mark the biggest {n}",
            "the {n} with the largest area",
            "where is the largest {n}?",
            "segment the biggest {n}",
        ),
        "val": ("show the largest {n}",),
        "test": ("which {n} is the biggest?", "mark the largest {n}"),
    },
    "leftmost": {
        "train": (
            "the leftmost {n}",
            "the {n} furthest left",
            "which {n} is on the far left?",
            "find the {n} nearest the left edge",
            "mark the {n} furthest to the left",
            "where is the leftmost {n}?",
            "segment the {n} on the far left",
        ),
        "val": ("show the leftmost {n}",),
        "test": ("which {n} is furthest left?", "mark the leftmost {n}"),
    },
    "topmost": {
        "train": (
            "the topmost {n}",
            "the {n} furthest up",
            "which {n} is at the very top?",
            "find the {n} nearest the top edge",
            "mark the {n} furthest to the top",
            "where is the topmost {n}?",
            "segment the {n} at the very top",
        ),
        "val": ("show the topmost {n}",),
        "test": ("which {n} is furthest up?", "mark the topmost {n}"),
    },
}

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

NOWHERE: Wording = {
    "train": (
        "airport runway", "railway line", "volcano", "wind turbine", "swimming pool", "castle", "glacier", "beach", "cemetery",
        "lighthouse", "greenhouse", "quarry", "pyramid", "waterfall", "helipad", "zoo", "race track", "power station", "igloo",
        "desert", "coral reef", "tent camp", "tunnel", "cable car", "chimney", "plane", "train", "elephant", "crane", "temple",
        "airport", "airstrip", "tram stop", "bus station", "orchard", "olive grove", "rice terrace", "tennis court",
        "baseball diamond", "basketball court", "stadium", "roundabout", "church", "mosque", "school", "hospital", "prison",
        "cooling tower", "power line", "mast", "antenna", "satellite dish", "mine", "gravel pit", "landfill", "sand dune",
        "mangrove", "swamp", "geyser", "iceberg", "snow field", "cliff", "canyon", "crater", "cave", "waterslide", "fountain",
        "roller coaster", "circus", "theatre", "shopping mall", "hotel", "palace", "fort", "city wall", "ruin", "barn", "silo",
        "stable", "fish farm", "oil rig", "sawmill", "brick kiln", "steel works", "ski lift", "rail yard",
        "locomotive", "helicopter", "rocket", "bicycle", "horse", "cow", "sheep", "whale", "dolphin", "flock of birds",
        "avalanche", "lava", "smoke", "fire", "cloud", "rainbow", "oasis", "cactus", "palm tree", "playground", "skate park",
    ),
    "val": ("windmill", "dam", "monument"),
    "test": ("golf course", "vineyard", "railway station", "runway for planes"),
}  # fmt: skip
"""Nouns for what this world never draws: the answer is always nothing."""
