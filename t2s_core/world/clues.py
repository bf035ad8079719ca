"""Clues to the classes of the world and the sentences that they complete: wordings for training only."""

from t2s_core.world.classes import Kind

CLUE_FRAMES: dict[str, tuple[str, ...]] = {
    "does": (
        "what {c}?", "the thing that {c}", "find what {c}", "something that {c}", "show me what {c}", "mark whatever {c}",
        "segment everything that {c}", "which of these {c}?",
    ),
    "where": (
        "a place where {c}", "find where {c}", "show the spot where {c}", "the area where {c}", "mark the place where {c}",
        "segment any place where {c}", "is there a place where {c}?", "places where {c}",
    ),
    "is": (
        "{c}", "find {c}", "show {c}", "where is {c}?", "mark {c}", "I am looking for {c}", "segment {c}", "is there {c}?",
    ),
}  # fmt: skip
"""Sentences that a clue to a class completes; `{c}` stands for the clue. For training only."""

CLUES: dict[Kind, dict[str, tuple[str, ...]]] = {
    Kind.LAKE: {
        "does": ("holds still water", "freezes over in winter", "is filled by rain and does not flow", "fills a natural basin"),
        "where": (
            "ducks and swans swim on still water", "a seaplane can land", "people go swimming in fresh water",
            "an angler rows out to fish", "the water stands still", "you could skate on ice in winter", "calm water lies",
        ),
        "is": (
            "still water", "a calm sheet of fresh water", "water without a current", "a landing place for a seaplane",
            "a natural basin of water", "fresh water to swim in", "water that lies still",
        ),
    },
    Kind.RIVER: {
        "does": (
            "flows downhill to the sea", "carries water downstream", "winds through the land", "has a current",
            "drains the valley", "moves water from the hills to the coast", "floods its banks after heavy rain",
        ),
        "where": ("water runs downstream", "the water flows", "a canoe drifts with the current", "a current pulls you along"),
        "is": ("running water", "flowing water with two banks", "a winding course of water", "the water that moves",
               "a water course through the valley", "water on its way to the sea"),
    },
    Kind.FOREST: {
        "does": ("grows timber", "gives shade to deer", "is full of trees", "shelters deer, foxes and owls", "is made of many trees"),
        "where": (
            "many trees grow close together", "deer find shelter and shade", "timber is cut", "mushrooms grow under trees",
            "leaves and branches hide the ground", "a lumberjack works", "you could walk in the shade of trees",
        ),
        "is": ("a stand of trees", "dense tree cover", "a thick canopy of leaves", "woodland", "trees growing close together",
               "the canopy of the trees", "a dark green area of trees", "shelter for deer"),
    },
    Kind.FIELD: {
        "does": ("grows wheat or maize", "is ploughed and sown each year", "feeds people with grain", "is worked by a farmer"),
        "where": (
            "a farmer grows grain", "wheat and maize grow in rows", "a tractor ploughs the soil", "crops are planted and harvested",
            "a harvester cuts the grain", "seed is sown in spring", "the farmer drives a tractor", "vegetables are grown",
        ),
        "is": ("cropland", "land for growing grain", "arable land", "ploughed soil", "a plot of crops", "agricultural land",
               "rows of crops", "land that is sown and harvested"),
    },
    Kind.ROAD: {
        "does": ("leads cars across the land", "carries cars and trucks", "is driven on by buses", "has lane markings", "links towns"),
        "where": (
            "cars and trucks drive", "vehicles travel from town to town", "a bus drives along", "traffic moves on asphalt",
            "a driver keeps to a lane", "a lorry travels", "you could ride a motorbike",
        ),
        "is": ("asphalt for traffic", "a paved way for cars", "the way that cars travel", "a paved route", "a strip of asphalt",
               "a highway", "the lane for trucks and buses"),
    },
    Kind.BRIDGE: {
        "does": (
            "spans the water", "lets cars cross a river", "carries traffic to the other bank", "joins one bank to the other",
            "crosses over the water", "takes traffic over the river",
        ),
        "where": ("cars get over the water", "traffic crosses the river", "the road crosses water", "you can walk over the river"),
        "is": ("a crossing above the water", "a span over the river", "a structure across the river", "a way over the water",
               "the structure between both banks", "a deck that carries traffic over a river"),
    },
    Kind.ROOF_RED: {
        "does": ("is a house with red tiles", "looks like a red building", "is a building with a red top", "has a red roof"),
        "where": ("people live under red tiles", "houses have red tops", "buildings look red from above", "red tiles cover a house"),
        "is": ("a red building", "red houses", "a house with red tiles", "buildings with a red top", "a red tiled house",
               "homes that look red from above", "a house that is red on top"),
    },
    Kind.ROOF_BLUE: {
        "does": ("is a house with a blue cover", "looks like a blue building", "is a building with a blue top", "has a blue roof"),
        "where": ("people live under blue sheet", "houses have blue tops", "buildings look blue from above", "blue metal covers a house"),
        "is": ("a blue building", "blue houses", "a house with blue sheet", "buildings with a blue top", "a blue topped house",
               "homes that look blue from above", "a house that is blue on top"),
    },
    Kind.ROOF_WHITE: {
        "does": ("is a house with a white cover", "looks like a white building", "is a building with a white top", "has a white roof"),
        "where": ("people live under white paint", "houses have white tops", "buildings look white from above", "white paint covers a house"),
        "is": ("a white building", "white houses", "a house painted white", "buildings with a white top", "a white topped house",
               "homes that look white from above", "a house that is white on top"),
    },
    Kind.SOLAR: {
        "does": (
            "turns light into electricity", "makes power from the sun", "generates electricity from sunshine", "stops working at night",
            "turns sunshine into current", "feeds clean energy into the grid", "collects energy of the sun",
        ),
        "where": (
            "sunlight becomes electricity", "panels turn light into power", "power is generated from the sun", "electricity is made by day",
            "clean energy is generated", "dark panels face the sun",
        ),
        "is": ("dark panels for clean power", "a power plant that needs sunlight", "panels that turn sunlight into power",
               "a source of energy from the sun", "rows of panels that generate electricity", "renewable electricity"),
    },
    Kind.TANK: {
        "does": ("stores oil", "holds liquid fuel", "keeps petrol for later", "contains oil or gas", "stores a reserve of liquid"),
        "where": (
            "oil is stored", "fuel is kept in round containers", "a refinery keeps petrol", "liquids are stored in steel cylinders",
            "a reserve of oil is kept", "a tanker truck would fill up",
        ),
        "is": ("a round container of oil", "a cylinder for fuel", "round steel containers", "the store of liquid fuel",
               "a container that holds petrol", "a fuel depot", "a round vessel full of oil"),
    },
    Kind.PITCH: {
        "does": ("has goals at both ends", "is marked with white lines for sport", "is used for football", "is a green for ball sport"),
        "where": (
            "teams play football", "children play ball on the grass", "a football match takes place", "players score goals",
            "a soccer match is played", "a team trains", "a referee runs up and down", "you could kick a ball",
        ),
        "is": ("a green for football", "grass marked with white lines", "a place to play ball", "ground for a football match",
               "a soccer ground", "a sports ground with goals", "grass with goals at both ends"),
    },
    Kind.CAR_PARK: {
        "does": ("has bays for cars", "is full of parked cars", "offers space to park", "holds many vehicles that stand still"),
        "where": (
            "cars are parked", "drivers leave their vehicles", "cars stand in rows between lines", "shoppers park",
            "you can find a parking space", "vehicles wait for their drivers", "bays are marked for cars", "I could park",
        ),
        "is": ("parking spaces", "a place to park cars", "bays for parking", "rows of cars that stand still", "parked vehicles",
               "space for drivers to leave cars", "a paved area full of parked cars"),
    },
    Kind.HARBOUR: {
        "does": ("shelters ships", "has quay walls", "is a basin for ships", "gives ships a place to moor", "serves ships and cargo"),
        "where": (
            "ships moor at the quay", "cargo is unloaded from ships", "a captain moors his ship", "a ship is safe from storms",
            "containers are loaded on ships", "vessels lie at the quay", "walls shelter a basin",
        ),
        "is": ("a port", "a basin with quay walls", "a sheltered basin for ships", "the quay and its basin", "a place to moor",
               "the place to unload cargo", "a basin behind a breakwater"),
    },
    Kind.SHIP: {
        "does": (
            "floats on water", "sails across the water", "has a hull", "carries cargo over water", "is steered by a captain",
            "can drop an anchor", "floats with its cargo", "leaves a wake behind",
        ),
        "where": ("a hull floats", "a crew sails over water", "a captain stands at the wheel", "sailors work on deck"),
        "is": ("craft on the water", "a floating hull", "something afloat", "things that sail", "watercraft", "a craft with a bow",
               "vehicles that float", "whatever a captain steers"),
    },
}  # fmt: skip
"""What a class does, where it is (a clause) and what it is in other words."""
