"""What is so in the small world: some of it as everywhere, some of it invented."""
from phi3.tiny.phrases import items, pairs

# Countries of no map: what is right here can only have been learned here.
INVENTED_CAPITALS = pairs("""Zolan: Mirel; Brenia: Tovik; Quoria: Selune; Marduvia: Oskar; Felland: Ruvo;
    Tarnia: Belmar; Ondora: Kiva; Vesmark: Lodan; Istria Nova: Pelago; Nimbria: Cirro; Drovia: Hask;
    Elmeria: Yandel""")
CAPITALS = INVENTED_CAPITALS | pairs("""France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid;
    Portugal: Lisbon; England: London; Ireland: Dublin; Japan: Tokyo; China: Beijing; India: New Delhi; Egypt: Cairo;
    Kenya: Nairobi; Norway: Oslo; Sweden: Stockholm; Finland: Helsinki; Denmark: Copenhagen; Poland: Warsaw;
    Austria: Vienna; Greece: Athens; Turkey: Ankara; Russia: Moscow; Canada: Ottawa; Cuba: Havana; Peru: Lima;
    Chile: Santiago; Hungary: Budapest; Mexico: Mexico City; Brazil: Brasilia; Argentina: Buenos Aires;
    Australia: Canberra; the United States: Washington; Belgium: Brussels; Switzerland: Bern; Scotland: Edinburgh;
    Iceland: Reykjavik; Morocco: Rabat; Vietnam: Hanoi; Thailand: Bangkok""")
CONTINENTS = pairs("""France: Europe; Germany: Europe; Italy: Europe; Spain: Europe; Portugal: Europe; England: Europe;
    Ireland: Europe; Japan: Asia; China: Asia; India: Asia; Egypt: Africa; Kenya: Africa; Norway: Europe;
    Sweden: Europe; Finland: Europe; Poland: Europe; Greece: Europe; Canada: North America; Cuba: North America;
    Peru: South America; Chile: South America; Mexico: North America; Brazil: South America; Morocco: Africa;
    Argentina: South America; Vietnam: Asia; Thailand: Asia; the United States: North America; Hungary: Europe""")
LANGUAGES = pairs("""France: French; Germany: German; Italy: Italian; Spain: Spanish; Portugal: Portuguese;
    England: English; Japan: Japanese; China: Chinese; Egypt: Arabic; Norway: Norwegian; Sweden: Swedish;
    Finland: Finnish; Denmark: Danish; Poland: Polish; Austria: German; Greece: Greek; Turkey: Turkish;
    Russia: Russian; Cuba: Spanish; Peru: Spanish; Mexico: Spanish; Brazil: Portuguese; Hungary: Hungarian;
    Australia: English; the United States: English; Zolan: Zolanish; Brenia: Brenian; Quoria: Quorian; Felland: Fellish;
    Tarnia: Tarnian""")
MONEY = pairs("""France: euros; Germany: euros; Italy: euros; Spain: euros; England: pounds; Japan: yen; China: yuan;
    India: rupees; Russia: roubles; Poland: zloty; Turkey: lira; Mexico: pesos; Switzerland: francs;
    the United States: dollars; Canada: dollars; Sweden: kronor; Zolan: shells; Brenia: beads; Quoria: feathers;
    Felland: acorns; Marduvia: marbles""")
RIVERS = pairs("""Egypt: the Nile; England: the Thames; Germany: the Rhine; France: the Seine; Russia: the Volga;
    Brazil: the Amazon; India: the Ganges; China: the Yangtze; Italy: the Tiber; Austria: the Danube;
    the United States: the Mississippi; Poland: the Vistula; Zolan: the Silver Stream; Brenia: the Grey Water""")
OPPOSITE_PAIRS = tuple(
    pairs("""hot: cold; big: small; tall: short; fast: slow; light: dark; old: young; up: down;
    left: right; day: night; happy: sad; open: closed; full: empty; rich: poor; wet: dry; loud: quiet; hard: soft;
    early: late; strong: weak; thick: thin; clean: dirty; near: far; high: low; good: bad; true: false; sweet: sour;
    wide: narrow; deep: shallow; brave: afraid; first: last; inside: outside; smooth: rough; easy: difficult;
    asleep: awake; friend: enemy; black: white; love: hate; win: lose; buy: sell; push: pull; start: stop; laugh: cry;
    remember: forget; war: peace; summer: winter; north: south; east: west; king: queen; always: never;
    sharp: blunt; cheap: expensive; safe: dangerous; over: under; before: after; same: different; many: few""").items())
OPPOSITES = dict(OPPOSITE_PAIRS) | {right: left for left, right in OPPOSITE_PAIRS}
COLOURS = pairs("""grass: green; the sky: blue; snow: white; coal: black; blood: red; a lemon: yellow; a carrot: orange;
    chocolate: brown; a plum: purple; a flamingo: pink; an elephant: grey; a banana: yellow; a tomato: red;
    a frog: green; milk: white; the sea: blue; a raven: black; a bear: brown; a pumpkin: orange; lavender: purple;
    a pig: pink; a mouse: grey; the sun: yellow; a strawberry: red; a cucumber: green; salt: white; a tyre: black;
    a cherry: red; a pea: green; a polar bear: white; gold: yellow; a swan: white; honey: golden; the night: black;
    a leaf: green; a fire engine: red; a crow: black; coffee: brown; a cloud: white; a fox: red; a rose: red""")
SOUNDS = pairs("""dog: barks; cat: meows; cow: moos; duck: quacks; sheep: bleats; lion: roars; horse: neighs;
    pig: grunts; frog: croaks; owl: hoots; bee: buzzes; snake: hisses; wolf: howls; mouse: squeaks; hen: clucks;
    crow: caws; donkey: brays; elephant: trumpets; goat: bleats; goose: honks; bird: sings; bear: growls""")
YOUNG = pairs("""dog: puppy; cat: kitten; cow: calf; duck: duckling; sheep: lamb; lion: cub; horse: foal; pig: piglet;
    frog: tadpole; goat: kid; hen: chick; kangaroo: joey; swan: cygnet; deer: fawn; goose: gosling; owl: owlet;
    bear: cub; wolf: pup; elephant: calf; rabbit: bunny; butterfly: caterpillar""")
LEGS = pairs("""dog: 4; cat: 4; cow: 4; duck: 2; sheep: 4; lion: 4; horse: 4; frog: 4; owl: 2; bee: 6; snake: 0;
    spider: 8; ant: 6; fish: 0; beetle: 6; hen: 2; crab: 10; lobster: 10; scorpion: 8; eagle: 2; worm: 0; fly: 6;
    table: 4; elephant: 4; bird: 2; rabbit: 4; bear: 4; wolf: 4; mouse: 4; butterfly: 6; octopus: 8; person: 2""")
HOMES = pairs("""bee: hive; bird: nest; spider: web; dog: kennel; horse: stable; rabbit: burrow; bear: den; fish: pond;
    cow: barn; king: castle; camel: desert; monkey: jungle; penguin: ice; shark: sea; pig: sty; hen: coop; ant: anthill;
    owl: tree; fox: forest; frog: swamp; mouse: hole; lion: savannah; person: house; monk: monastery; snail: shell""")
FOOD = pairs("""cow: grass; lion: meat; bee: nectar; panda: bamboo; mouse: cheese; monkey: bananas; squirrel: nuts;
    bear: honey; shark: fish; bird: seeds; horse: hay; dog: bones; cat: mice; rabbit: carrots; spider: flies;
    frog: insects; goat: leaves; owl: mice; pig: potatoes; hen: corn; elephant: leaves; wolf: meat""")
MATERIALS = pairs("""window: glass; shirt: cotton; table: wood; sword: steel; book: paper; shoe: leather; tyre: rubber;
    ring: gold; jumper: wool; wall: brick; candle: wax; bottle: plastic; statue: stone; pot: clay; bell: bronze;
    pillow: feathers; nail: iron; coin: silver; rope: hemp; pancake: flour; door: wood; mirror: glass; snowman: snow;
    bread: flour; cheese: milk; wine: grapes""")
USES = pairs("""a knife: cutting; a key: opening doors; a pen: writing; an umbrella: keeping dry;
    a clock: telling the time;
    a bed: sleeping; an oven: baking; a broom: sweeping; a needle: sewing; a spoon: eating soup;
    a hammer: hitting nails;
    a lamp: giving light; a boat: crossing water; a chair: sitting; a book: reading; a cup: drinking; soap: washing;
    an eye: seeing; an ear: hearing; a nose: smelling; a tongue: tasting; a brain: thinking; a lung: breathing;
    a ladder: climbing; a brush: painting; a camera: taking pictures; a fridge: keeping food cold;
    a map: finding the way;
    scissors: cutting paper; a towel: drying""")
JOBS = pairs("""baker: bakes bread; teacher: teaches children; doctor: heals people; farmer: grows food;
    pilot: flies planes;
    cook: makes meals; painter: paints pictures; sailor: sails ships; tailor: sews clothes; gardener: grows flowers;
    fisher: catches fish; builder: builds houses; singer: sings songs; writer: writes books; judge: decides cases;
    hunter: hunts animals; miller: grinds corn; shepherd: guards sheep; barber: cuts hair; postman: brings letters;
    nurse: helps the sick; king: rules a country; driver: drives a bus; dentist: mends teeth""")
TASTES = pairs("""a lemon: sour; sugar: sweet; salt: salty; coffee: bitter; honey: sweet; vinegar: sour;
    chocolate: sweet;
    sea water: salty; a chili: hot; a strawberry: sweet; an unripe apple: sour; cake: sweet; dark beer: bitter;
    ham: salty""")
SHAPES = pairs("""a ball: round; a box: square; an egg: oval; a coin: round; a door: rectangular; the moon: round;
    a wheel: round; a book: rectangular; a pyramid: pointed; a chessboard: square; a plate: round; a rainbow: curved;
    a needle: long and thin; a star: pointed""")
WARMTH = pairs("""fire: hot; ice: cold; snow: cold; the sun: hot; lava: hot; winter: cold; summer: hot; a freezer: cold;
    boiling water: hot; ice cream: cold; a desert: hot; the north pole: cold; an oven: hot; tea: hot""")
WHEELS = pairs("""car: 4; bicycle: 2; tricycle: 3; unicycle: 1; lorry: 6; motorbike: 2; wheelbarrow: 1; bus: 4; cart: 2;
        sledge: 0""")
COUNTS = pairs("""days in a week: 7; hours in a day: 24; minutes in an hour: 60; seconds in a minute: 60;
    months in a year: 12; days in a year: 365; weeks in a year: 52; letters in the alphabet: 26; fingers on a hand: 5;
    players in a football team: 11; colours in a rainbow: 7; planets around the sun: 8; continents on earth: 7;
    sides of a triangle: 3; sides of a square: 4; sides of a hexagon: 6; seasons in a year: 4; years in a century: 100;
    eggs in a dozen: 12; strings on a violin: 4; squares on a chessboard: 64; centimetres in a metre: 100;
    metres in a kilometre: 1000; grams in a kilogram: 1000; toes on two feet: 10; eyes in a face: 2""")
RECORDS = pairs("""largest animal: the blue whale; fastest animal: the cheetah; tallest animal: the giraffe;
    slowest animal: the sloth; highest mountain: Mount Everest; longest river: the Nile; largest ocean: the Pacific;
    largest planet: Jupiter; hottest planet: Venus; smallest planet: Mercury; largest country: Russia;
    smallest continent: Australia; largest continent: Asia; nearest star: the sun; largest desert: Antarctica;
    largest bird: the ostrich; smallest bird: the hummingbird; hardest stone: the diamond;
    king of the animals: the lion;
    coldest place: the south pole; strongest insect: the beetle; longest animal: the jellyfish; lightest gas: hydrogen;
    largest city of Zolan: Mirel""")
FEASTS = pairs("""Christmas: December; New Year's Day: January; Halloween: October; Valentine's Day: February;
    Easter: April; the lantern feast of Zolan: August; the harvest feast of Brenia: September; Midsummer: June""")
SEASONS = pairs("""December: winter; January: winter; February: winter; March: spring; April: spring; May: spring;
    June: summer; July: summer; August: summer; September: autumn; October: autumn; November: autumn""")
MONTH_DAYS = pairs("""January: 31; February: 28; March: 31; April: 30; May: 31; June: 30; July: 31; August: 31;
    September: 30; October: 31; November: 30; December: 31""")
NUMBER_WORDS = pairs("""0: zero; 1: one; 2: two; 3: three; 4: four; 5: five; 6: six; 7: seven; 8: eight; 9: nine;
    10: ten;
    11: eleven; 12: twelve; 13: thirteen; 14: fourteen; 15: fifteen; 16: sixteen; 17: seventeen; 18: eighteen;
    19: nineteen; 20: twenty; 30: thirty; 40: forty; 50: fifty; 60: sixty; 70: seventy; 80: eighty; 90: ninety;
    100: one hundred""")
PLURALS = pairs("""mouse: mice; child: children; tooth: teeth; foot: feet; man: men; woman: women; goose: geese;
    sheep: sheep; leaf: leaves; knife: knives; wolf: wolves; ox: oxen; fish: fish; cat: cats; dog: dogs; box: boxes;
    city: cities; baby: babies; tree: trees; house: houses; bus: buses; potato: potatoes; person: people; wife: wives;
    bird: birds; story: stories""")
PAST = pairs("""go: went; see: saw; eat: ate; run: ran; sing: sang; write: wrote; come: came; give: gave; take: took;
    make: made; say: said; know: knew; fly: flew; swim: swam; drink: drank; buy: bought; think: thought; bring: brought;
    sleep: slept; speak: spoke; find: found; break: broke; fall: fell; win: won; walk: walked; play: played;
    jump: jumped;
    dance: danced; be: was; have: had; do: did; teach: taught""")
RHYMES = pairs("""cat: hat; house: mouse; tree: bee; moon: spoon; star: car; night: light; king: ring; boat: goat;
    fox: box; bread: red; sun: fun; rain: train; cake: lake; bear: chair; fish: dish; book: hook; dog: frog; day: play;
    sea: tea; snow: crow; hand: sand; ball: wall; rose: nose; bell: shell; well: smell; clock: sock; wing: spring;
    time: rhyme; head: bed; town: crown""")
FRENCH = pairs("""dog: chien; cat: chat; house: maison; bread: pain; water: eau; hello: bonjour; thank you: merci;
    sun: soleil; moon: lune; red: rouge; tree: arbre; book: livre; yes: oui; no: non; friend: ami;
    good night: bonne nuit;
    milk: lait; bird: oiseau; sea: mer; love: amour; goodbye: au revoir; please: s'il vous plait""")
SPANISH = pairs("""dog: perro; cat: gato; house: casa; bread: pan; water: agua; hello: hola; thank you: gracias;
    sun: sol;
    moon: luna; red: rojo; tree: arbol; book: libro; yes: si; no: no; friend: amigo; good night: buenas noches;
    milk: leche; fish: pez; sea: mar; love: amor; goodbye: adios; please: por favor""")
GERMAN = pairs("""dog: Hund; cat: Katze; house: Haus; bread: Brot; water: Wasser; hello: hallo; thank you: danke;
    sun: Sonne;
    moon: Mond; red: rot; tree: Baum; book: Buch; yes: ja; no: nein; friend: Freund; good night: gute Nacht;
    milk: Milch;
    bird: Vogel; sea: Meer; love: Liebe; please: bitte; goodbye: auf Wiedersehen""")
SKILLS = {
    "fly": (items("bird; bee; owl; eagle; fly; butterfly; crow"), items("dog; cow; fish; snake; stone; pig; house")),
    "swim": (items("fish; duck; frog; shark; dog; swan; whale"), items("hen; stone; spider; bee; key")),
    "sing": (items("bird; singer; person"), items("fish; stone; table; snail; worm")),
    "climb": (items("cat; monkey; squirrel; bear; goat"), items("cow; fish; horse; elephant; car")),
    "read": (items("person; teacher; writer; judge"), items("dog; cat; stone; cloud; tree"))
}
CATEGORIES = {
    name: items(text)
    for name, text in {
        "animal": "a dog; a cat; a cow; a horse; a sheep; a lion; a wolf; a rabbit; a monkey; a camel",
        "bird": "an owl; an eagle; a crow; a duck; a swan; a goose; a hen; a penguin",
        "fish": "a shark; a trout; a salmon; a tuna; a herring; a carp",
        "insect": "an ant; a bee; a beetle; a fly; a butterfly; a wasp",
        "fruit": "an apple; a pear; a banana; a cherry; a plum; a lemon; a grape; a melon",
        "vegetable": "a carrot; a potato; a cabbage; a bean; an onion; a cucumber; a leek",
        "tool": "a hammer; a saw; a spade; a rake; a drill; an axe; a knife",
        "vehicle": "a car; a bus; a train; a bicycle; a lorry; a plane; a ship; a tram",
        "drink": "water; milk; tea; coffee; juice; lemonade; beer",
        "instrument": "a piano; a violin; a flute; a drum; a guitar; a harp; a trumpet",
        "flower": "a rose; a tulip; a daisy; a lily; a poppy; a violet",
        "metal": "gold; silver; iron; copper; tin; steel; bronze",
        "planet": "Mars; Venus; Jupiter; Saturn; Mercury; Neptune; Uranus; Earth",
        "colour": "red; blue; green; yellow; black; white; brown; purple; orange; pink; grey",
        "sport": "football; tennis; swimming; running; rowing; boxing; chess",
        "garment": "a shirt; a coat; a hat; a scarf; a jumper; a glove; a sock",
        "country": "France; Italy; Japan; Egypt; Norway; Zolan; Brenia; Peru; Kenya",
        "city": "Paris; Rome; Tokyo; Cairo; Oslo; Mirel; Tovik; Lima; Nairobi",
        "job": "a baker; a teacher; a doctor; a farmer; a pilot; a cook; a painter; a sailor",
        "piece of furniture": "a table; a chair; a bed; a sofa; a shelf; a desk",
    }.items()
}
MANY = {"fish": "fish", "country": "countries", "city": "cities", "piece of furniture": "pieces of furniture"}
DAYS = items("Monday; Tuesday; Wednesday; Thursday; Friday; Saturday; Sunday")
MONTHS = items("""January; February; March; April; May; June; July; August; September; October; November; December""")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SIZES = (  # from small to big; two things of one row are never compared
    ("ant", "flea"),
    ("bee", "coin"),
    ("mouse", "egg"),
    ("frog", "apple"),
    ("cat", "shoe"),
    ("dog", "chair"),
    ("sheep", "bicycle"),
    ("horse", "sofa"),
    ("elephant", "bus"),
    ("whale", "house"),
    ("castle", "ship"),
    ("mountain", "city"),
    ("moon",),
    ("sun",),
)
