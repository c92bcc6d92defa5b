"""Which emoji llmore embeds, and the rule that turns an emojibase label into a caption.

Left out: skin tones, flags, people and hands, clock faces, signs and letters, variants that look alike at 64 x 64, and
labels that name a company, a place or a holy site.
"""

import unicodedata

# Subgroups taken whole, except for the labels in SKIP.
SUBGROUPS = set("""
face-smiling face-affection face-tongue face-hand face-neutral-skeptical face-sleepy face-unwell face-hat face-glasses
face-concerned face-negative face-costume cat-face monkey-face heart body-parts
animal-mammal animal-bird animal-amphibian animal-reptile animal-marine animal-bug plant-flower plant-other
food-fruit food-vegetable food-prepared food-asian food-sweet drink dishware
place-geographic place-building place-other transport-ground transport-water transport-air hotel time sky-weather
event award-medal sport game arts-crafts
clothing sound music musical-instrument phone computer light-video book-paper money mail writing office lock tool
science medical household other-object geometric
""".split())

SKIP = set("""
grinning face with smiling eyes|grinning squinting face|smiling face|kissing face with smiling eyes|dotted line face
face in clouds|head shaking horizontally|head shaking vertically|shaking face|distorted face|persevering face
confounded face|frowning face with open mouth|anguished face|hushed face|relieved face|tired face|slightly frowning face
downcast face with sweat|disappointed face|anxious face with sweat|face with open eyes and hand over mouth|face exhaling
sad but relieved face|ogre|goblin|weary face|star-struck|lying face|woozy face|kissing face with closed eyes
grinning cat with smiling eyes|cat with wry smile|weary cat|see-no-evil monkey|hear-no-evil monkey|speak-no-evil monkey
heart decoration|heart exclamation|beating heart|growing heart|revolving hearts|mending heart|light blue heart
pink heart
mechanical arm|mechanical leg|flexed biceps|biting lip|ear with hearing aid|leg|tongue
guide dog|service dog|moose|ox|water buffalo|two-hump camel|ram|rat|bison|mouse|rabbit|black cat
face with symbols on mouth
front-facing baby chick|hatching chick|black bird|goose|phoenix|turkey|whale|shamrock|empty nest|leafless tree
nest with eggs|pine decoration|tanabata tree|moon viewing ceremony|Japanese dolls|carp streamer|white flower
stuffed flatbread|tamale|oden|shallow pan of food|rice cracker|mate|landslide|orca|treasure chest|trombone|fight cloud
mount fuji|national park|Japanese post office|love hotel|Tokyo tower|Statue of Liberty|Japanese castle|derelict house
building construction|houses|wedding|convenience store|hot springs|foggy|cityscape at dusk|bridge at night|sunset
department store|carousel horse|barber pole
oncoming bus|oncoming police car|oncoming taxi|oncoming automobile|light rail|train|tram car|trolleybus|railway car
station|mountain railway|suspension railway|mountain cableway|airplane departure|airplane arrival|ship|ferry|motor boat
sport utility vehicle|articulated lorry|manual wheelchair|motorized wheelchair|construction|bullet train|bus stop
hourglass not done|mantelpiece clock|timer clock|stopwatch
twelve o'clock|twelve-thirty|one o'clock|one-thirty|two o'clock|two-thirty|three-thirty|four o'clock|four-thirty
five o'clock|five-thirty|six o'clock|six-thirty|seven o'clock|seven-thirty|eight o'clock|eight-thirty|nine o'clock
nine-thirty|ten o'clock|ten-thirty|eleven o'clock|eleven-thirty
new moon|waxing crescent moon|first quarter moon|waxing gibbous moon|waning gibbous moon|last quarter moon
waning crescent moon|new moon face|last quarter moon face|sun behind small cloud|sun behind large cloud|fog|sun
cyclone|snowman|umbrella on ground|umbrella|cloud with lightning
admission tickets|reminder ribbon|red envelope|softball|rugby football|cricket game
field hockey|lacrosse|flower playing cards|mahjong red dragon|joker|nesting dolls|performing arts|pool 8 ball
sari|briefs|woman's clothes|clutch bag|woman's sandal|flat shoe|military helmet|prayer beads|hair pick|kimono
speaker low volume|speaker medium volume|muted speaker|bell with slash|musical score|musical notes|level slider
mobile phone with arrow|pager|low battery|trackball|dvd|computer disk|camera with flash|magnifying glass tilted right
diya lamp|long drum|green book|orange book|notebook|page facing up|rolled-up newspaper|bookmark tabs|page with curl
label
euro banknote|pound banknote|yen banknote|chart increasing with yen|receipt|e-mail|incoming envelope|envelope with arrow
outbox tray|inbox tray|open mailbox with lowered flag|closed mailbox with raised flag|open mailbox with raised flag
black nib|fountain pen|file folder|tear-off calendar|spiral calendar|spiral notepad|card index|card index dividers
round pushpin|linked paperclips|card file box|chart decreasing|locked with pen|locked with key|hammer and pick
hammer and wrench|white cane|broken chain|link|clamp|pick|petri dish|alembic|crutch|lotion bottle|mouse trap|elevator
cigarette|coffin|funeral urn|nazar amulet|hamsa|placard|identification card|roll of paper|dagger|bomb|water pistol
black medium square|white medium square|black medium-small square|white medium-small square|black small square
white small square|small orange diamond|small blue diamond|white square button|black square button|radio button
diamond with a dot|white large square|white circle|red triangle pointed up|red triangle pointed down
""".replace("\n", "|").strip("|").split("|"))

# Labels whose caption is not "a" or "an" and the label.
CAPTIONS = dict(pair.split("=") for pair in """
rolling on the floor laughing=a face rolling on the floor laughing|upside-down face=an upside-down smiling face
unamused face=an unamused face|smiling face with hearts=a smiling face with hearts around it
smiling face with heart-eyes=a smiling face with heart-shaped eyes|smiling face with tear=a smiling face with a tear
face savoring food=a face licking its lips|face with tongue=a face sticking out its tongue
winking face with tongue=a winking face sticking out its tongue
squinting face with tongue=a squinting face sticking out its tongue|money-mouth face=a face with dollar signs for eyes
face with hand over mouth=a face with a hand over its mouth|face with peeking eye=a face peeking through its fingers
zipper-mouth face=a face with a zipper for a mouth|face with raised eyebrow=a face with a raised eyebrow
face without mouth=a face without a mouth|face with medical mask=a face with a medical mask
face with thermometer=a face with a thermometer|face with head-bandage=a face with a bandage around its head
face vomiting=a vomiting face|smiling face with halo=a smiling face with a halo
cowboy hat face=a smiling face with a cowboy hat|partying face=a face with a party hat
disguised face=a face in disguise with glasses and a mustache|nerd face=a face with round glasses
face with monocle=a face with a monocle|face with diagonal mouth=a face with a slanted mouth
face with open mouth=a face with an open mouth|face with steam from nose=a face with steam coming from its nose
smiling face with horns=a purple smiling face with horns|angry face with horns=a purple angry face with horns
pile of poo=a smiling pile of poo|alien monster=a purple pixel monster|grinning cat=a grinning cat face
cat with tears of joy=a cat face with tears of joy
smiling cat with heart-eyes=a smiling cat face with heart-shaped eyes|kissing cat=a kissing cat face
crying cat=a crying cat face|pouting cat=a pouting cat face|heart with arrow=a heart with an arrow
heart with ribbon=a heart with a ribbon|two hearts=two pink hearts|grey heart=a gray heart|lungs=a pair of lungs
eyes=a pair of eyes|anatomical heart=a human heart|ewe=a sheep|paw prints=two blue paw prints
sauropod=a long-necked dinosaur|T-Rex=a tyrannosaurus|coral=a branch of coral|lady beetle=a ladybug
honeybee=a honey bee|herb=a sprig of herbs|leaf fluttering in wind=a leaf fluttering in the wind
grapes=a bunch of grapes|cherries=two cherries|tangerine=an orange tangerine|banana=a yellow banana
lemon=a yellow lemon|lime=a green lime|tomato=a red tomato|kiwi fruit=a slice of kiwi fruit
leafy green=a leafy green vegetable|garlic=a bulb of garlic|bread=a loaf of bread|baguette bread=a baguette
pancakes=a stack of pancakes|cheese wedge=a wedge of cheese|meat on bone=a piece of meat on a bone
poultry leg=a chicken leg|french fries=a box of french fries|pizza=a slice of pizza|cooking=a fried egg in a pan
bowl with spoon=a bowl with a spoon|green salad=a bowl of green salad|popcorn=a box of popcorn
butter=a piece of butter|salt=a salt shaker|canned food=a can of food|cooked rice=a bowl of cooked rice
curry rice=a plate of rice and curry|steaming bowl=a steaming bowl of noodles|spaghetti=a plate of spaghetti
sushi=two pieces of sushi|fish cake with swirl=a fish cake with a pink swirl|dango=three dumplings on a stick
soft ice cream=a soft ice cream cone|shaved ice=a bowl of shaved ice|ice cream=a bowl of ice cream
shortcake=a slice of shortcake|candy=a wrapped candy|custard=a caramel custard|hot beverage=a cup of hot coffee
teacup without handle=a cup of green tea|sake=a bottle and a cup of sake
bottle with popping cork=a bottle with a popping cork|wine glass=a glass of red wine
clinking beer mugs=two clinking beer mugs|clinking glasses=two clinking glasses
pouring liquid=a glass with pouring liquid|cup with straw=a cup with a straw|bubble tea=a cup of bubble tea
ice=an ice cube|chopsticks=a pair of chopsticks|fork and knife with plate=a plate with a fork and a knife
fork and knife=a fork and a knife|snow-capped mountain=a mountain with a snowy top|camping=a tent in the woods
beach with umbrella=a beach with an umbrella|wood=a log of wood|house with garden=a house with a tree
night with stars=a night sky with stars|metro=a subway train|police car light=a red police light|ring buoy=a life ring
seat=an airplane seat|luggage=a suitcase|hourglass done=an hourglass|three o'clock=a clock face showing three o'clock
first quarter moon face=a half moon with a face|full moon face=a full moon with a face|sun with face=a sun with a face
ringed planet=a planet with a ring|sun behind cloud=a sun behind a cloud
sun behind rain cloud=a sun behind a rain cloud|milky way=a night sky with the milky way
wind face=a cloud blowing wind|umbrella with rain drops=an umbrella with rain drops
high voltage=a yellow lightning bolt|snowman without snow=a snowman|droplet=a drop of water
jack-o-lantern=a carved pumpkin lantern|fireworks=fireworks in the night sky|sparkles=three yellow sparkles
ribbon=a red ribbon|1st place medal=a gold medal|2nd place medal=a silver medal|3rd place medal=a bronze medal
tennis=a tennis racket and a ball|bowling=a bowling ball and pins|ice hockey=an ice hockey stick and a puck
ping pong=a table tennis paddle and a ball|badminton=a badminton racket and a shuttlecock
flag in hole=a golf hole with a flag|skis=a ski boot on a ski|video game=a game controller|yo-yo=a yo-yo toy
game die=a white die|mirror ball=a shiny mirror ball|spade suit=a black spade|heart suit=a red card heart
diamond suit=a red card diamond|club suit=a black club|thread=a spool of thread|yarn=a ball of yarn
knot=a rope with a knot|glasses=a pair of glasses|sunglasses=a pair of dark sunglasses|goggles=a pair of goggles
jeans=a pair of jeans|gloves=a pair of gloves|socks=a pair of socks|shorts=a pair of shorts
ballet shoes=a pair of ballet shoes|shopping bags=two shopping bags|one-piece swimsuit=a one-piece swimsuit
speaker high volume=a speaker with sound waves|headphone=a pair of headphones|control knobs=four control knobs
maracas=a pair of maracas|battery=a full battery|optical disk=a shiny optical disk|film frames=a strip of film
magnifying glass tilted left=a magnifying glass|notebook with decorative cover=a notebook with a decorated cover
books=a stack of books|dollar banknote=a stack of dollar banknotes|money with wings=a stack of banknotes with wings
closed mailbox with lowered flag=a closed mailbox|ballot box with ballot=a ballot box with a ballot
memo=a memo with a pencil|chart increasing=a chart with a rising line|scissors=a pair of scissors
locked=a closed padlock|unlocked=an open padlock|crossed swords=two crossed swords|chains=two chains
dna=a double helix|x-ray=an x-ray of bones|bubbles=several soap bubbles|soap=a bar of soap
couch and lamp=a couch and a lamp|moai=a stone statue of a head|black large square=a black square
large orange diamond=an orange diamond|large blue diamond=a blue diamond|unicorn=the face of a unicorn
alien=the face of a gray alien|robot=the face of a robot|bird=a blue bird|brick=a red brick wall
bug=a green caterpillar|pinata=a star-shaped pinata|blueberries=three blueberries|peanuts=a peanut
beans=three red beans|falafel=a plate of falafel|olive=a branch with green olives|root vegetable=a red beet
bell pepper=a green bell pepper|eggplant=a purple eggplant|stop sign=a red stop sign|postbox=a red postbox
closed book=a closed red book|bullseye=a target with an arrow|necktie=a shirt with a necktie
fishing pole=a fish on a fishing pole|alarm clock=a red alarm clock|teapot=a red teapot
grinning face with sweat=a grinning face with a drop of sweat|hot face=a red hot face|cold face=a blue cold face
lotus=a lotus flower|locomotive=a steam locomotive|microbe=a green microbe|balloon=a red balloon
thong sandal=a blue sandal
""".strip().replace("\n", "|").split("|"))

# Labels that take no article.
BARE = {"broccoli", "bacon"}


def plain(label):
    """An emojibase label in ASCII, with straight quotes."""
    label = label.replace("\u2018", "'").replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"')
    return unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()


def caption(label):
    """A lower-case caption such as "a red apple", or None when the emoji is left out. `label` is plain."""
    if label in SKIP:
        return None
    if label in CAPTIONS:
        return CAPTIONS[label]
    label = label.lower()
    if label in BARE:
        return label
    return ("an " if label[0] in "aeio" else "a ") + label
