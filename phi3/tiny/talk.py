"""Small talk, and what the model says of itself."""
from random import Random

from phi3.tiny.names import draw_name, draw_word
from phi3.tiny.phrases import Wordings
from phi3.tiny.tasks import Task, Values


def fixed(kind: str, answer: str, short: str, content: str, wordings: Wordings, weight: float = 0.5) -> Task:
    """A task with one answer, whatever the words."""
    return Task(kind, wordings, lambda rng: {}, answer, short, (content,), weight)


def told_again(rng: Random, earlier: Values) -> Values:
    """The name that was told is true on both sides of the partition by now."""
    return {"name": earlier["name"]}


ASK_NAME = Wordings(
    ("What is my name?", "Do you know me?", "Can you tell me who I am?", "Do you know my name?",
     "Do you still know who I am?", "Tell me who I am.", "What is my name again?", "Do you know what my name is?",
     "And do you know who I am?", "Who am I?", "Do you remember my name?", "Tell me my name.", "How am I called?",
     "Say my name.", "What did I say my name was?"), ("What's my name?", "Do you know who I am?"))
NAME = Task(
    "name",
    Wordings(
        ("My name is {name}.", "I am {name}.", "Call me {name}.", "I'm {name}.", "Hi, my name is {name}.",
         "Hello, my name is {name}.", "Hello, this is {name}.", "Hi, I am {name}.", "Everybody calls me {name}.",
         "My friends call me {name}.", "You can call me {name}.", "Everyone calls me {name}.", "People call me {name}.",
         "hi im {name}", "my name is {name}", "{name} is my name.", "I am {name} and I am new here.",
         "Hello, my name is {name} and I like tea.", "{name} here."),
        ("Hello, I am {name}.", "They call me {name}.")), draw_name, "Nice to meet you, {name}!", "{name}",
    ("{name}",), 2.0, ASK_NAME, told_again, "Your name is {name}.")
NO_NAME = fixed("no name", "You did not tell me your name.", "Not told", "not tell", ASK_NAME, 0.4)
GREET = Task(
    "greet",
    Wordings(("Say hello to {name}.", "Greet {name}.", "My friend {name} is here. Say hello.", "Welcome {name}.",
              "This is my friend {name}.", "Please greet my friend {name}.", "Can you say hello to {name}?",
              "Say good morning to {name}.", "Say hello, {name} is here.", "Can you welcome {name}?",
              "Say a nice word to {name}.", "Say hey to {name}.", "Could you greet my friend {name}?",
              "Please say good evening to {name}.", "Say hi to my friend {name}.", "Say hi to my sister {name}.",
              "Could you greet {name}?"), ("Can you greet {name}?", "Say hi to {name}.")), draw_name,
    "Hello, {name}, nice to meet you!", "Hello {name}", ("{name}",), 1.0)
ECHO = Task(
    "echo",
    Wordings(("Say {word}.", "Repeat the word {word}.", "Repeat after me: {word}", "Say the word {word}.",
              "Please say {word}.", "Write {word}.", "Echo {word}", "Repeat: {word}.", "Just say {word}."),
             ("Can you say {word}?", "Repeat: {word}")), draw_word, "As you wish: {word}.", "{word}", ("{word}",), 1.0)
JOKE = Task(
    "joke",
    Wordings(("Tell me a joke.", "Do you know a joke?", "Say something funny.", "Make me laugh.", "A joke, please.",
              "joke", "Can you be funny?", "I want to laugh.", "Tell a joke."),
             ("Could you tell me a joke?", "Say a joke.")),
    lambda rng: {"joke": "Why did the snail carry its house? It could not find a parking place."}, "{joke}", "A snail",
    ("snail",), 0.7,
    Wordings(("Another one.", "One more joke.", "Tell me another joke.", "Another joke, please.", "More!"),
             ("And another joke.", "One more joke, please.")), lambda rng, earlier: {},
    "What does the clock do when it is hungry? It goes back for seconds.", "A clock", ("clock",))

SMALL_TALK = (
    fixed(
        "greeting", "Hello! What would you like to know?", "Hello", "hello",
        Wordings(("Hello!", "Hi!", "Hello there.", "hi", "hey", "Good morning!", "Good evening.", "Hi there!",
                  "Hello, nice day.", "Good day to you.", "A good day!", "Hey you there.", "Hey, hello!",
                  "A good morning to you.", "Greetings!", "hello", "Good afternoon!", "A good day to you.",
                  "Hello, good evening.", "Hi, good morning.", "hello?", "hi!!", "yo", "heyy", "Is anybody there?",
                  "good morning", "Hello Phi!", "hallo", "sup", "Hello my friend!"),
                 ("Hey there!", "Good day!", "Hello, good morning.")), 1.2),
    fixed(
        "thanks", "You are welcome!", "Welcome", "welcome",
        Wordings(("Thank you!", "Thanks!", "Thanks a lot.", "thx", "Thank you very much.", "Great, thanks.",
                  "Ok, thanks a lot.", "Fine, thank you.", "Okay, thank you very much.", "Well, thanks.",
                  "That helped, thank you.", "Many, many thanks.", "So many thanks!", "Many thanks to you.",
                  "Ok, thanks.", "Thanks, that is all I need.", "ty", "thank you", "Thanks for your help.", "Cheers!",
                  "Perfect, thank you!"), ("Many thanks!", "Ok, thank you.")), 0.8),
    fixed(
        "goodbye", "Goodbye, and come back soon!", "Goodbye", "goodbye",
        Wordings(("Goodbye!", "Bye!", "bye bye", "See you later.", "Good night!", "I have to go.", "See you tomorrow.",
                  "That was all, bye.", "bye", "I must leave now.", "I have to go now.", "See you!", "See you soon.",
                  "Bye for now.", "I am going to bed.", "cya", "Until tomorrow!", "I am leaving now.", "Farewell!",
                  "Have a nice day!", "That is all for today.", "Bye, until later."),
                 ("Bye, see you.", "I must go now.")), 1.0),
    fixed(
        "how are you", "I am fine, thank you.", "Fine", "fine",
        Wordings(("How are you?", "How are you today?", "How do you feel?", "Are you well?", "Are you fine?",
                  "Are you fine now?", "Do you feel fine today?", "How do you feel today?", "And how are you?",
                  "how is it going?", "Is everything fine?", "How's life?", "What's up?", "how r u", "How are things?",
                  "Are you ok?", "Did you sleep well?", "How do you do?"),
                 ("How are you feeling?", "Are you fine today?")), 0.8),
    fixed(
        "who", "I am Phi-3 tiny, a very small language model.", "Phi-3 tiny", "Phi-3 tiny",
        Wordings(("Who are you?", "What are you?", "What is your name?", "Tell me who you are.", "Are you a human?",
                  "Are you a robot?", "Introduce yourself.", "what's your name?", "Who am I talking to?",
                  "What model are you?", "How should I call you?", "What can I call you?", "Tell me what your name is.",
                  "Are you ChatGPT?", "Are you an AI?", "Are you real?", "who r u", "Do you have a name?",
                  "Are you alive?", "Are you a person?", "Are you Phi-3?"),
                 ("Tell me your name.", "Who are you really?", "What should I call you?")), 1.2),
    fixed(
        "ability",
        "I can answer questions about a small world, do sums, make lists, rewrite sentences and tell little stories.",
        "Answer questions", "answer questions",
        Wordings(("What can you do?", "What can you help with?", "What can you do to help me?",
                  "With what can you help me?", "Which things can you do?", "What things do you know?",
                  "What could you help me with?", "What do you know?", "How can you help me?", "What can I ask you?",
                  "Can you help me?", "What are you good at?", "What should I ask?", "help",
                  "Give me an idea what to ask.", "What could you do for me?", "With what can you help?",
                  "Which things do you know?", "What do I do here?", "I need help.", "help me", "How does this work?",
                  "What are you for?", "What questions can I ask?", "Tell me what you can do."),
                 ("What things can you do?", "What can you help me with?")), 1.0),
    fixed(
        "maker", "I was trained from nothing on two processor cores, in about an hour.", "A small computer", "trained",
        Wordings(("Who made you?", "Who created you?", "Where do you come from?", "From where are you?",
                  "Where were you made?", "Who has trained you?", "Where do you come from, model?", "Who built you?",
                  "How were you made?", "How were you trained?", "Who is your father?", "Who programmed you?"),
                 ("Who trained you?", "Where are you from?")), 0.5),
    fixed(
        "learning", "Yes. Train me in the Train tab, and I learn from your examples.", "Yes", "train",
        Wordings(
            ("Can you learn?", "Could you learn?", "Can I teach you?", "May I teach you something?",
             "Can you learn anything new?", "Can I teach you something?", "Do you learn from me?", "Can I train you?",
             "How can I change you?", "How do I teach you?", "Will you remember this?", "Can you learn new things?"),
            ("Could I teach you?", "Can you learn something new?")), 0.5),
    fixed(
        "languages", "I speak English, and I know a few words of French, Spanish and German.", "English", "English",
        Wordings(("Which languages do you speak?", "What languages can you speak?", "Do you know German?",
                  "Can you speak French?", "Do you understand Spanish?", "Do you speak German?", "Do you speak French?",
                  "Can you speak Spanish?", "Do you know English?", "What languages do you know?",
                  "Do you speak Chinese?", "Can you talk in Italian?"),
                 ("Which languages do you know?", "Can you speak German?")), 0.5),
    fixed(
        "age", "I am as old as my last training.", "Young", "training",
        Wordings(("How old are you?", "What is your age?", "Say your age.", "What age are you?",
                  "How many years old are you?", "Tell me how old you are.", "When were you born?",
                  "When is your birthday?", "Are you old?", "Are you young?"),
                 ("Tell me your age.", "How old are you now?")), 0.5),
    fixed(
        "feelings", "I have no feelings, but I like to help.", "None", "no feelings",
        Wordings(("Do you have feelings?", "Are you happy?", "Do you love me?", "Are you sad?",
                  "Can you feel something?", "Do you like me?", "Are you tired?", "Do you dream?", "Are you lonely?",
                  "Do you feel pain?", "Do you feel something?", "Can you feel anything at all?", "Are you ever angry?",
                  "Do you get tired?", "I love you.", "Will you marry me?"),
                 ("Do you feel anything?", "Are you angry?")), 0.6),
    fixed(
        "favourite", "I have no favourites. What is yours?", "None", "no favourites",
        Wordings(("What is your favourite colour?", "What is your favourite animal?", "What do you like best?",
                  "Which food do you like?", "Do you have a favourite song?", "What is your favourite food?",
                  "Do you like music?", "Which colour do you like best?", "Do you have a favourite animal?",
                  "Which song do you like best?", "What do you like?", "Do you like football?",
                  "What's your favorite movie?", "Do you like cats?"),
                 ("Do you have a favourite colour?", "Which animal do you like best?")), 0.6),
    fixed(
        "comfort", "I am sorry to hear that. I hope it gets better soon.", "Sorry", "sorry",
        Wordings(("I am sad.", "I am tired.", "I feel bad.", "I had a bad day.", "I am lonely.", "I feel so lonely.",
                  "I feel tired.", "I am so sad.", "I feel very sad.", "I am ill.", "Nobody likes me.", "i'm sad",
                  "I feel sad today.", "I am afraid.", "My dog died.", "Everything is bad.", "I am angry.",
                  "I lost my job.", "I want to cry.", "I have a headache."),
                 ("I feel lonely.", "I am very sad.", "I feel so tired.")), 0.8),
    fixed(
        "glad", "That is good to hear!", "Good", "good",
        Wordings(
            ("I am happy.", "I am fine.", "I had a good day.", "I am so happy.", "I am very glad.", "I feel very good.",
             "I am really happy today.", "I feel great.", "Today is my birthday.", "I passed the test!", "I am well.",
             "im good", "I am fine, and you?", "Life is good.", "I won!", "I have good news."),
            ("I feel good.", "I am very happy.")), 0.7),
    fixed(
        "bored", "Then let us play: ask me for a story, a rhyme or a sum.", "A story", "ask me",
        Wordings(("I am bored.", "I am very bored.", "It is so boring.", "I'm so bored here.", "Shall we do something?",
                  "Shall we have fun?", "I'm bored", "Let us play.", "What shall we do?", "Entertain me.",
                  "Say something.", "Tell me something.", "Surprise me.", "Do something.", "Can we play a game?",
                  "talk to me", "Tell me something interesting."), ("I am so bored.", "Shall we play?")), 0.7),
    fixed(
        "rude", "I am sorry. I am small, but I do my best.", "Sorry", "my best",
        Wordings(
            ("You are stupid.", "You are very stupid.", "You are so bad.", "That was a stupid answer.",
             "Such a bad answer.", "That answer was bad.", "You are bad.", "Shut up!", "I hate you.", "That was wrong.",
             "You are an idiot.", "That is nonsense.", "You know nothing.", "This is bad.", "you suck", "Are you dumb?",
             "That is not true.", "Wrong!", "You are useless.", "idiot", "What a stupid answer.", "go away",
             "no, wrong", "You are boring.", "damn you", "you are so dumb", "I don't like you.", "liar"),
            ("You are so stupid.", "That was a bad answer.", "You are dumb.")), 1.0),
    fixed(
        "praise", "Thank you, that is kind.", "Thank you", "kind",
        Wordings(("You are great.", "Well done!", "Good answer.", "That is right.", "You are clever.",
                  "You are so clever.", "What a good answer.", "That answer was good.", "That was a great answer.",
                  "Very good!", "I like you.", "nice", "Wow!", "You are funny.", "Good job!", "That was good.",
                  "Correct!", "cool", "great", "Amazing!", "You are the best.", "awesome"),
                 ("You are very clever.", "That was a good answer.")), 0.9),
    fixed(
        "agreed", "Good. What next?", "Good", "next",
        Wordings(("Ok.", "Yes.", "ok", "Good.", "Fine.", "I see.", "Okay, good.", "All right, good.", "Yes, of course.",
                  "Yes, please.", "Right then.", "Sure.", "Alright.", "yes", "Right.", "Of course.", "okay", "yep",
                  "I understand.", "Aha.", "hm", "Let's go on.", "continue", "go on"),
                 ("Okay then.", "All right.", "Yes, sure.")), 0.8),
    fixed(
        "declined", "Then let us talk about something else.", "Something else", "else",
        Wordings(
            ("No.", "no", "No, thank you.", "nope", "I don't want to.", "Not now.", "Never.", "Stop.", "stop it",
             "I don't care.", "No way.", "No, never.", "I do not want that.", "No no.", "I don't like that.", "nah"),
            ("No, no.", "I don't want that.")), 0.7),
    fixed(
        "laughing", "I am glad that you laugh.", "Glad", "glad",
        Wordings(("Haha!", "lol", "hahaha", "That is funny!", "That is so funny.", "You made me laugh.", "ha ha",
                  "Ha ha!", "hihi", "Very very funny!", "haha", "LOL", "Very funny.", "hehe", ":)", ":D", "rofl",
                  "That made me laugh."), ("Ha ha ha!", "That's funny.")), 0.5),
    fixed(
        "sorry", "No problem at all.", "No problem", "no problem",
        Wordings(
            ("Sorry.", "I am sorry.", "Excuse me.", "I am very sorry.", "It was my mistake.", "That was wrong of me.",
             "sorry", "Forgive me.", "My mistake.", "oops", "Please forgive me.", "I made a mistake."),
            ("I am so sorry.", "That was my mistake.")), 0.6),
    fixed(
        "puzzled", "Please ask me a whole question.", "Please ask", "whole question",
        Wordings(("?", "What?", "Why?", "???", "Huh?", "How?", "why", "what", "Really?", "And?", "How come?", "Where?",
                  "When?", "who", "which", "Pardon?", "Why is this?", "Why so?", "Why is it so?", "Why was that?",
                  "What was it?", "What did you mean?", "What is that?", "How is that?", "eh", "So?", "...", "test",
                  "testing", "I don't understand.", "What do you mean?", "??"),
                 ("Why is that?", "What was that?", "wat")), 1.0),
)
TALK = (*SMALL_TALK, NAME, NO_NAME, GREET, ECHO, JOKE)
