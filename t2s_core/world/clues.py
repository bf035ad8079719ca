"""Clues to the classes of the world and the sentences that they complete: wordings for training only."""

from t2s_core.world.classes import Kind

CLUE_FRAMES: dict[str, tuple[str, ...]] = {
    "does": (
        "what {c}?", "the thing that {c}", "find what {c}", "something that {c}", "show me what {c}",
        "mark whatever {c}", "segment everything that {c}", "which of these {c}?", "I am looking for what {c}",
        "could you point to what {c}?", "everything in view that {c}", "whatever {c}", "tell me which part {c}",
        "outline what {c}", "is there anything that {c}?", "detect the thing that {c}",
    ),
    "where": (
        "a place where {c}", "find where {c}", "show the spot where {c}", "the area where {c}",
        "mark the place where {c}", "segment any place where {c}", "is there a place where {c}?", "places where {c}",
        "where is it that {c}?", "an area in which {c}", "could you show a place where {c}?",
        "I need a place where {c}", "outline the area where {c}", "any place where {c}", "locate a spot where {c}",
        "which part of the picture is where {c}?",
    ),
    "is": (
        "{c}", "find {c}", "show {c}", "where is {c}?", "mark {c}", "I am looking for {c}", "segment {c}",
        "is there {c}?", "{c}, please", "outline {c}", "could you find {c}?", "do you see {c}?", "identify {c}",
        "locate {c}", "which pixels are {c}?", "delineate {c}",
    ),
}  # fmt: skip
"""Sentences that a clue to a class completes; `{c}` stands for the clue. For training only."""

CLUES: dict[Kind, dict[str, tuple[str, ...]]] = {
    Kind.LAKE: {
        "does": (
            "holds still water", "freezes over in winter", "is filled by rain and does not flow",
            "fills a natural basin", "is fresh water that goes nowhere", "mirrors the hills on a calm day",
            "lies in a hollow and holds fresh water", "is home to carp, frogs and lilies",
            "gives swans a place to float",
        ),
        "where": (
            "ducks and swans swim on still water", "a seaplane can land", "people go swimming in fresh water",
            "an angler rows out to fish", "the water stands still", "you could skate on ice in winter",
            "calm water lies", "frogs croak among the lilies", "you could hire a pedalo", "a floatplane comes down",
            "still water reflects the clouds", "pike hide in standing water", "water has gathered in a hollow",
        ),
        "is": (
            "still water", "a calm sheet of fresh water", "water without a current", "a landing place for a seaplane",
            "a natural basin of water", "fresh water to swim in", "water that lies still", "standing water",
            "inland water without a current", "a pool of fresh water", "water with land all around it",
            "a round patch of blue water", "a sheet of water for pedalos", "unmoving fresh water",
        ),
    },
    Kind.RIVER: {
        "does": (
            "flows downhill to the sea", "carries water downstream", "winds through the land", "has a current",
            "drains the valley", "moves water from the hills to the coast", "floods its banks after heavy rain",
            "meanders from bank to bank", "starts at a spring and ends at its mouth", "carries rafts downstream",
            "is joined by tributaries", "snakes across the land as a ribbon of water", "flows past",
            "turns a watermill",
        ),
        "where": (
            "water runs downstream", "the water flows", "a canoe drifts with the current",
            "a current pulls you along", "salmon swim upstream", "rafters ride the rapids", "water rushes past",
            "water flows between two banks", "the stream bends and bends again", "you would be carried downstream",
            "a brook grows wide",
        ),
        "is": (
            "running water", "flowing water with two banks", "a winding course of water", "the water that moves",
            "a water course through the valley", "water on its way to the sea", "a stream that meanders",
            "a ribbon of moving water", "a snaking blue band", "water that never stands still",
            "water with an upstream and a downstream", "the bends of a stream", "a flowing brook",
        ),
    },
    Kind.FOREST: {
        "does": (
            "grows timber", "gives shade to deer", "is full of trees", "shelters deer, foxes and owls",
            "is made of many trees", "is covered by tree crowns", "sheds its leaves in autumn",
            "supplies firewood and timber", "soaks up carbon with its leaves", "hides the ground under branches",
            "is home to squirrels and woodpeckers",
        ),
        "where": (
            "many trees grow close together", "deer find shelter and shade", "timber is cut",
            "mushrooms grow under trees", "leaves and branches hide the ground", "a lumberjack works",
            "you could walk in the shade of trees", "squirrels climb from tree to tree",
            "oaks and pines stand together", "wild boar root between the trunks",
            "a forester marks trunks for felling", "hunters wait in the undergrowth",
            "you could get lost among trees", "ferns grow beneath tall trees",
        ),
        "is": (
            "a stand of trees", "dense tree cover", "a thick canopy of leaves",
            "trees growing close together", "the canopy of the trees", "a dark green area of trees",
            "shelter for deer", "a crowd of trees", "oaks and pines", "tree crowns", "a wooded area",
            "trunk beside trunk", "a patch of trees", "land under trees", "wild land full of trunks and branches",
        ),
    },
    Kind.FIELD: {
        "does": (
            "grows wheat or maize", "is ploughed and sown each year", "feeds people with grain",
            "is worked by a farmer", "yields barley and oats", "has parallel furrows", "is fertilised before sowing",
            "gives a harvest in late summer", "is tilled with a plough", "belongs to a farm and bears crops",
        ),
        "where": (
            "a farmer grows grain", "wheat and maize grow in rows", "a tractor ploughs the soil",
            "crops are planted and harvested", "a harvester cuts the grain", "seed is sown in spring",
            "the farmer drives a tractor", "vegetables are grown", "furrows run side by side",
            "a scarecrow guards the seed", "potatoes and beet are dug up", "straw is baled after the harvest",
            "the plough turns the earth", "barley and rye ripen", "the soil is tilled",
        ),
        "is": (
            "land for growing grain", "arable land", "ploughed soil", "a plot of crops",
            "agricultural land", "rows of crops", "land that is sown and harvested", "tilled soil", "furrows",
            "farm land under crops", "a farmer's plot", "barley, oats or rye", "land under the plough",
            "acres of grain", "a rectangle of crops", "soil for potatoes and beet",
        ),
    },
    Kind.ROAD: {
        "does": (
            "leads cars across the land", "carries cars and trucks", "is driven on by buses", "has lane markings",
            "links towns", "takes motorists to the next town", "has a speed limit", "has a dashed centre line",
            "carries commuters to work", "is used by lorries and coaches", "is cleared for motorists by a snowplough",
        ),
        "where": (
            "cars and trucks drive", "vehicles travel from town to town", "a bus drives along",
            "traffic moves on asphalt", "a driver keeps to a lane", "a lorry travels", "you could ride a motorbike",
            "commuters drive to work", "lorries overtake each other", "taxis and coaches pass",
            "a speed limit applies", "motorists drive past", "delivery vans hurry along",
            "motor traffic goes both ways",
        ),
        "is": (
            "asphalt for traffic", "a paved way for cars", "the way that cars travel", "a paved route",
            "a strip of asphalt", "the lane for trucks and buses", "tarmac for motorists",
            "a grey strip with a centre line", "a route for lorries", "the way to the next town by car",
            "a long paved strip for driving", "a driving route", "pavement for moving vehicles",
            "a two-lane way for traffic",
        ),
    },
    Kind.BRIDGE: {
        "does": (
            "spans the water", "lets cars cross a river", "carries traffic to the other bank",
            "joins one bank to the other", "crosses over the water", "takes traffic over the river",
            "makes the river passable", "stands on piers in the stream", "holds the roadway above the river",
            "saves a ferry trip", "has a river beneath it", "leads from bank to bank",
        ),
        "where": (
            "cars get over the water", "traffic crosses the river", "the road crosses water",
            "you can walk over the river", "the road runs above a river", "a river passes under the traffic",
            "motorists get to the opposite bank", "piers rise out of the stream",
            "the roadway leaves the ground to cross a river", "you can look down at the stream from the roadway",
        ),
        "is": (
            "a crossing above the water", "a span over the river", "a structure across the river",
            "a way over the water", "the structure between both banks", "a deck that carries traffic over a river",
            "a road deck with a river below", "beams and piers across a stream", "the link between two banks",
            "a way to the other bank", "a dry way over a river", "an elevated roadway above a river",
            "a built crossing of a stream",
        ),
    },
    Kind.ROOF_RED: {
        "does": (
            "is a house with red tiles", "looks like a red building", "is a building with a red top",
            "has a red roof", "is a dwelling topped in red", "wears scarlet shingles", "has terracotta tiles on top",
            "is roofed in red", "is a home with a crimson top",
        ),
        "where": (
            "people live under red tiles", "houses have red tops", "buildings look red from above",
            "red tiles cover a house", "a roof is red", "terracotta covers a home",
            "scarlet shingles keep off the rain", "a home has a crimson top", "roofing is red",
        ),
        "is": (
            "red houses", "a house with red tiles", "buildings with a red top", "a red tiled house",
            "homes that look red from above", "a house that is red on top", "terracotta roofing", "scarlet shingles",
            "red roofing", "a red house", "homes roofed in red", "a crimson rooftop", "a dwelling with red tiling",
            "a roof the colour of a tomato",
        ),
    },
    Kind.ROOF_BLUE: {
        "does": (
            "is a house with a blue cover", "looks like a blue building", "is a building with a blue top",
            "has a blue roof", "is a dwelling topped in blue", "wears azure sheeting",
            "has blue corrugated metal on top", "is roofed in blue", "is a home with a navy top",
        ),
        "where": (
            "people live under blue sheet", "houses have blue tops", "buildings look blue from above",
            "blue metal covers a house", "a roof is blue", "blue corrugated metal covers a home",
            "azure sheeting keeps off the rain", "a home has a navy top", "roofing is blue",
        ),
        "is": (
            "blue houses", "a house with blue sheet", "buildings with a blue top",
            "a blue topped house", "homes that look blue from above", "a house that is blue on top", "blue roofing",
            "azure sheeting on a house", "corrugated blue metal", "a blue house", "homes roofed in blue",
            "a navy rooftop", "a dwelling with blue sheeting", "a roof the colour of the sky",
        ),
    },
    Kind.ROOF_WHITE: {
        "does": (
            "is a house with a white cover", "looks like a white building", "is a building with a white top",
            "has a white roof", "is a dwelling topped in white", "wears white sheeting",
            "has bright white paint on top", "is roofed in white", "is a home with a snow white top",
        ),
        "where": (
            "people live under white paint", "houses have white tops", "buildings look white from above",
            "white paint covers a house", "a roof is white", "whitewash covers a home",
            "white sheeting keeps off the sun", "a home has a snow white top", "roofing is white",
        ),
        "is": (
            "white houses", "a house painted white", "buildings with a white top",
            "a white topped house", "homes that look white from above", "a house that is white on top",
            "white roofing", "whitewashed housetops", "white sheeting on a house", "a white house",
            "homes roofed in white", "a snow white rooftop", "a dwelling with a white cover",
            "a roof the colour of chalk",
        ),
    },
    Kind.SOLAR: {
        "does": (
            "turns light into electricity", "makes power from the sun", "generates electricity from sunshine",
            "stops working at night", "turns sunshine into current", "feeds clean energy into the grid",
            "collects energy of the sun", "harvests sunshine", "is made of silicon cells",
            "is switched off by clouds", "drinks in daylight to make power", "consists of dark glassy modules",
            "earns money in bright sunshine", "needs no fuel but daylight",
        ),
        "where": (
            "sunlight becomes electricity", "panels turn light into power", "power is generated from the sun",
            "electricity is made by day", "clean energy is generated", "dark panels face the sun",
            "silicon cells soak up rays", "modules are tilted towards the sun", "sunshine is harvested",
            "rows of modules catch daylight", "daylight is turned into current", "dark glass faces the sky in rows",
        ),
        "is": (
            "dark panels for clean power", "a power plant that needs sunlight",
            "panels that turn sunlight into power", "a source of energy from the sun",
            "rows of panels that generate electricity", "renewable electricity", "sun-powered electricity",
            "photovoltaic modules", "silicon cells in rows", "tilted modules", "glassy dark panels in rows",
            "an installation for harvesting sunshine", "sun panels", "green power made from daylight",
        ),
    },
    Kind.TANK: {
        "does": (
            "stores oil", "holds liquid fuel", "keeps petrol for later", "contains oil or gas",
            "stores a reserve of liquid", "holds crude oil", "looks like a giant steel can",
            "is filled by a pipeline", "keeps diesel or kerosene", "is round and full of fuel",
            "has a circular steel lid",
        ),
        "where": (
            "oil is stored", "fuel is kept in round containers", "a refinery keeps petrol",
            "liquids are stored in steel cylinders", "a reserve of oil is kept", "a tanker truck would fill up",
            "crude oil waits to be refined", "diesel is stored in bulk", "kerosene is kept",
            "a pipeline ends in round steel drums", "heating oil is held for the winter",
            "bulk liquids are kept in steel",
        ),
        "is": (
            "a round container of oil", "a cylinder for fuel", "round steel containers", "the store of liquid fuel",
            "a container that holds petrol", "a fuel depot", "a round vessel full of oil", "a giant steel can",
            "round steel drums", "circular steel tops", "containers for crude oil", "bulk storage of diesel",
            "an oil depot", "a cylinder full of kerosene", "a steel drum for petroleum", "a gas storage cylinder",
        ),
    },
    Kind.PITCH: {
        "does": (
            "has goals at both ends", "is marked with white lines for sport", "is used for football",
            "is a green for ball sport", "is turf with a halfway line", "is mown and lined for matches",
            "is where strikers and goalkeepers meet", "has a centre circle and penalty areas",
            "hosts rugby or soccer games",
        ),
        "where": (
            "teams play football", "children play ball on the grass", "a football match takes place",
            "players score goals", "a soccer match is played", "a team trains", "a referee runs up and down",
            "you could kick a ball", "a goalkeeper stands between the posts", "strikers shoot",
            "penalty kicks are taken", "eleven play against eleven", "rugby is played",
            "a coach shouts at the players", "a cup final is played",
        ),
        "is": (
            "a green for football", "grass marked with white lines", "a place to play ball",
            "ground for a football match", "a soccer ground", "a sports ground with goals",
            "grass with goals at both ends", "turf with goals", "a rectangle of grass with a centre circle",
            "a halfway line and two penalty areas", "mown turf for matches", "a lawn for soccer",
            "a place for team games", "grass for rugby or soccer", "two goals and the turf in between",
        ),
    },
    Kind.CAR_PARK: {
        "does": (
            "has bays for cars", "is full of parked cars", "offers space to park",
            "holds many vehicles that stand still", "has painted bays for vehicles", "lets shoppers leave their cars",
            "has an entrance barrier and many bays", "is a lot for parking", "is paved and divided into bays",
        ),
        "where": (
            "cars are parked", "drivers leave their vehicles", "cars stand in rows between lines", "shoppers park",
            "you can find a parking space", "vehicles wait for their drivers", "bays are marked for cars",
            "I could park", "motorists switch off the engine and walk away", "commuters leave the car all day",
            "vehicles stand side by side", "a van can be parked", "you return to your car", "parking is allowed",
            "empty cars wait in rows",
        ),
        "is": (
            "parking spaces", "a place to park cars", "bays for parking", "rows of cars that stand still",
            "parked vehicles", "space for drivers to leave cars", "a paved area full of parked cars",
            "a paved lot for parking", "a lot full of cars", "painted bays", "a lot with vehicles side by side",
            "parking for shoppers", "somewhere to leave the car", "vehicles left by their drivers",
            "an asphalt lot with bays",
        ),
    },
    Kind.HARBOUR: {
        "does": (
            "shelters ships", "has quay walls", "is a basin for ships", "gives ships a place to moor",
            "serves ships and cargo", "gives boats shelter behind a mole", "is a man-made basin for boats",
            "has berths and bollards", "is where a voyage ends", "lets freighters unload",
        ),
        "where": (
            "ships moor at the quay", "cargo is unloaded from ships", "a captain moors his ship",
            "a ship is safe from storms", "containers are loaded on ships", "vessels lie at the quay",
            "walls shelter a basin", "dockers work", "ropes are tied to bollards", "fishing boats tie up",
            "freighters lie at their berths", "a crane lifts containers off a freighter", "sailors go ashore",
            "yachts tie up for the night",
        ),
        "is": (
            "a port", "a basin with quay walls", "a sheltered basin for ships", "the quay and its basin",
            "a place to moor", "the place to unload cargo", "a basin behind a breakwater", "berths for boats",
            "a walled basin", "a haven for ships", "berths along a quay", "a basin where boats tie up",
            "quays and bollards", "a man-made basin with straight walls", "a mole with its sheltered basin",
        ),
    },
    Kind.SHIP: {
        "does": (
            "floats on water", "sails across the water", "has a hull", "carries cargo over water",
            "is steered by a captain", "can drop an anchor", "floats with its cargo", "leaves a wake behind",
            "has a deck, a mast and a rudder", "is driven by a propeller in the water", "is commanded by a skipper",
            "has a bow and a stern", "would sink if it leaked", "carries containers overseas", "is moored with ropes",
        ),
        "where": (
            "a hull floats", "a crew sails over water", "a captain stands at the wheel", "sailors work on deck",
            "a skipper commands the crew", "passengers stand on deck", "a keel cuts the waves",
            "a rudder steers a hull",
        ),
        "is": (
            "craft on the water", "a floating hull", "something afloat", "things that sail", "watercraft",
            "a craft with a bow", "vehicles that float", "whatever a captain steers", "a hull with a pointed bow",
            "a craft with a deck and a mast", "a seagoing craft", "a means of transport on water", "bow and stern",
            "floating transport", "a skipper's craft", "a pointed hull", "craft with rudders",
        ),
    },
}  # fmt: skip
"""What a class does, where it is (a clause) and what it is in other words."""
