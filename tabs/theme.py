"""Every sentence that the page says, and where its looks lie."""

from functools import partial
from pathlib import Path

import gradio as gr

STYLESHEET = Path(__file__).parent / "studio.css"
FAVICON = Path(__file__).parent / "favicon.svg"
# HTML that takes its looks from the stylesheet alone.
markup = partial(gr.HTML, apply_default_css=False)

TITLE = "Phi-3 LoRA Studio"
LEAD = "Teach Phi-3 from your own conversations, watch its answers change, then chat with both side by side."
TRAIN, CHAT = "Train", "Chat"
STEPS = ("Data", "Train", "Compare", "Keep")

SIGN_IN = "Sign in with Hugging Face"
WHY_SIGN_IN = "Signed in, your runs are yours from any browser."
SIGNED_IN = "Signed in as"
SIGN_OUT = "Sign out"
TOKEN_HERE = "This machine holds a Hugging Face token."
WHOSE_TOKEN = "Whose?"
HUB_AWAY = "The Hub can't be reached from here. Everything but publishing and fetching works without it."

FROM_HUB = "From the Hub"
FROM_HUB_LEAD = "Adapters that others, or you, have published for this base. Private ones show to who may read them."
FIND = "Search by name"
FIND_HINT = "a word, OWNER/NAME, or its address"
LOOKING_ON_HUB = "Looking on the Hub …"
NONE_FOUND = "There is none by that name for this base."
NONE_YET = "There is none for this base yet. Publish the first one."
FOUND = "{count} on the Hub for this base."
PUT_INTO_LANE = "Put into a lane"
FETCHING = "Fetching {name} from the Hub …"
IN_LANE = "{name} is here, and in a lane."
IS_HERE = "{name} is here. Choose it in a lane when the answers have come."
MARKS = {"mine": "yours", "sibling": "for {base}", "private": "private", "gated": "gated"}

TO_HUB = "Publish on the Hub"
TO_HUB_OWN = "Publish an adapter of yours"
TO_HUB_LEAD = ("Its weights, its settings and its card go to your account on the Hub, as one commit. The conversations "
               "that it learned from stay here.")
WHICH_ADAPTER = "Adapter"
NOTHING_TO_PUBLISH = "You have no adapter yet that was trained here. Train one, and publish it."
ASKING_WHO = "Asking the Hub who you are …"
SIGN_IN_TO_PUBLISH = "Publishing puts the adapter under your own name on the Hub."
TOKEN_TO_PUBLISH = ("Publishing needs a token of yours with write permission. Make one at {address}/settings/tokens, "
                    "give it to hf auth login in a terminal or put it into HF_TOKEN, and open this again.")
REPOSITORY = "Name on the Hub"
STANDING = {
    "free": "{name} is free.",
    "mine": "{name} is yours already: this becomes its next revision.",
    "someone else's": "{name} is under somebody else's account. Publish it under {account}/.",
}
VISIBILITY = "Who sees it"
VISIBILITIES = {"private": "Only me", "public": "Everybody"}
LICENCE = "Licence"
OWN_EXAMPLES = "Show these in the card: questions from your conversations, with both answers"
OWN_EXAMPLES_LEAD = "The card can show what base and adapter said while it was trained. The questions are your data."
SHIPPED_EXAMPLES_LEAD = "The card shows what base and adapter said to the example's own questions."
CARD = "See its card"
CARD_LEAD = "This is what its page on the Hub says."
CARD_TEXT = "README.md"
PUBLISH = "Publish"
PUBLISH_AGAIN = "Publish again"
PUBLISHING = "Publishing …"
PUBLISHED = "is on the Hub"
PUBLISHED_PRIVATE = "is on the Hub, and you alone see it"
UNCHANGED = "The Hub had just these files already."
OPEN_IN_SPACE = "Open it in this Space"

UNEXPECTED = ("Something went wrong that should not have. Try again; if it happens again, the log says more under "
              "{number}.")

DISK_FULL = "The disk of the machine that this app runs on is full. Free some space there, and try again."

OWN_DATA = "own"
DESCRIBED = "described"
EXAMPLES = {
    "pirate": "A pirate\nAnswers rightly, but as a pirate would",
    "json": "Answers as JSON\nAlways one object with the same keys",
    "shop": "The staff of a shop\nKnow its goods, prices and hours",
    DESCRIBED: "Describe it\nSay in a sentence how it should answer",
    OWN_DATA: "Your own\nFiles, a paste, or a dataset on the Hub",
}
DATA_QUESTION = "What should the model learn?"
UPLOAD = "Files: JSONL, JSON, CSV, Parquet, Arrow, xlsx, zip"
# Gradio 6.31 lacks this word, and shows its key.
GRADIOS_WORDS = {"common.upload": "Add files"}
PASTE = "Or paste conversations"
PASTE_HINT = '{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Ahoy!"}]}'
OWN_HINT = ("JSON lines, a JSON list or a table: messages, ShareGPT, Alpaca, prompt and completion, question and "
            "answer, chosen and rejected, ChatML. It stays on this machine.")
HUB = "Or a dataset on the Hub"
HUB_ID = "Dataset"
HUB_ID_HINT = "OWNER/NAME, or its address. Only the rows that are needed are fetched; no script of it is run."
HUB_CONFIG = "Subset"
HUB_SPLIT = "Split"
HUB_OPTIONAL = "Empty: the usual one."
HUB_READ = "Read it"
COLUMNS_TITLE = "Which column is what?"
COLUMNS_LEAD = "The columns of this table aren't known. Say which one asks and which one answers; this is a guess."
PROMPT_COLUMN = "Prompt"
ANSWER_COLUMN = "Answer"
USE_COLUMNS = "Use these columns"
NO_REPEATS = "Leave out repeated conversations"
DOWNLOAD_DROPPED = "Download all of them (.csv)"
LENGTHS_TITLE = "How long they are"
LENGTHS_LEAD = "Conversations by their tokens; those beyond the limit are cut, and hatched."
LENGTHS_TABLE = "The lengths as a table"
FIND_ROW = "Row"
FIND_ROW_HINT = "Its number in the file."
SHOW_ROW = "Show this row"
NO_SUCH_ROW = "There is no row {row}: {count} were read."
NO_DATA_YET = ("Upload a file, paste some conversations or name a dataset, and what the model will learn from them "
               "appears here.")
NOTHING_DESCRIBED_YET = "Say how it should answer. When the answers are written, what it will learn appears here."
NO_COLUMNS_YET = "Once you have said which is which, what the model will learn appears here."
# These say that there is no data yet, not that some is wrong.
NOTHING_YET = (NO_DATA_YET, NOTHING_DESCRIBED_YET, NO_COLUMNS_YET)
READING = "Reading the conversations …"
COUNTING = "Counting their tokens …"
SEEN_TITLE = "What the model reads"
SEEN_LEGEND = "learned: what the adapter is trained to say"
SEEN_LEGEND_REST = "read only"
SHOW_ANOTHER = "Show others"

DESCRIPTION = "How should it answer?"
DESCRIPTION_PLACEHOLDER = "like a tired lighthouse keeper"
DESCRIPTION_HINT = ("The base answers everyday questions this way because it is told to. Training on these answers "
                    "makes the manner its own: it needn't be told any more.")
DESCRIPTIONS = ("like a shy robot", "like a teacher who asks back", "in rhyme", "like a grumpy cat")
WRITE = "Write the answers"
WRITE_ANEW = "Write them anew"
STOP_WRITING = "Stop and keep these"
ASKING_PROGRESS = "Questions answered"
ASKING_BASE = "Asking the base the first questions …"
ASKING_LOADS = "The base is still loading; it is asked as soon as it is there."
LEFT_OUT = {"manner not followed": "didn't follow the description", "repeated": "repeated", "empty": "empty",
            "cut off": "too long"}
ANSWERS = "Read a handful"
ANSWERS_LEAD = "Change what doesn't fit, or strike it out. What you see here is what it learns."
STRIKE_OUT = "Strike out"
OTHER_ANSWERS = "Show other answers"
ASK_MORE = "Ask more questions"
DOWNLOAD_ANSWERS = "Download (.jsonl)"
NOTHING_ASKED = "It was stopped before a question was answered. Write them anew, or ask more questions."
HARDLY_FOLLOWED = ("The base hardly follows this description. Other words may do better: what should an answer look or "
                   "sound like?")
NOBODY_FOLLOWED = ("The base doesn't follow this description at all. Try other words: what should an answer look or "
                   "sound like?")
NO_QUESTIONS_LEFT = "All {count} questions are asked already. Write them anew with other words, or edit the answers."
ALL_STRUCK = "Every answer is struck out or empty. Bring some back, or ask more questions."

METHODS = {
    "lora": "LoRA\nThe base stays as it is",
    "qlora": "QLoRA\nThe base is held in 4 bits",
    "loralib": "loralib\nThe layers that LoRA began with",
}
PRESET_LABEL = "Settings"
PRESETS = {"quick": "Quick look", "balanced": "Balanced", "thorough": "Thorough", "recipe": "As in the recipe"}
KEPT_BY_HAND = "As you set it: {settings}."
MAKE_IT_FIT = "Make it fit"
MADE_TO_FIT = "Now it fits."
PLAN_GUESSED = "a guess: nothing was trained here yet"
PLAN_BEHIND = "What will happen"
PLAN_TABLES = ("The work", "Memory at its highest", "Time")
PLAN_LENT = "A day's seconds of GPU"
PLAN_TOO_LARGE = "This needs about {needed} GB and there are {there} GB."
PLAN_ONE_CHANGE = "One change makes it fit: {change}."
PLAN_ALONE = "It needs the whole card, so the Chat tab answers nothing while it trains."
PLAN_TAKES_LESS = ("A smaller batch, a shorter longest conversation, gradient checkpointing or QLoRA take less; one "
                   "alone is not enough.")
PLAN_ONE_TURN = "one GPU turn"
PLAN_TURNS = "{count} GPU turns: keep this page open"
PLAN_LEAVES_ENOUGH = ("It counts as {asked} of the {quota} seconds of GPU that you have in a day without signing in; "
                      "{left} are left for the chat.")
PLAN_LEAVES_LITTLE = ("It counts as {asked} of the {quota} seconds of GPU that you have in a day without signing in, "
                      "which leaves too little to compare afterwards. {more}")
PLAN_MORE = {"free": "Signed in you have {quota}.", "pro": "With a PRO account you have {quota}.",
             "": "Train on fewer conversations, or go on tomorrow.", "anonymous": ""}
PLAN_TURN_ROWS = ("This run", "“Describe it”, before the run", "One comparison, after it",
                  "Without signing in", "Left for the chat")
PLAN_MEMORY = {"base": "Base", "adapter": "Adapter", "gradients": "Gradients", "optimizer": "Optimizer",
               "activations": "Activations", "logits": "Logits", "overhead": "Program"}
PLAN_TIME = {"loading": "Loading", "training": "Training", "evaluation": "Held-out loss",
             "speaking": "Answers in between"}
PRECISIONS = {"fp32": "32 bits", "bf16": "bfloat16", "nf4": "4 bits (NF4)"}
MADE_WHOLE = ", made whole once"
MORE_TRAINING = "More training settings"
MORE_LORA = "More LoRA settings"
CODE = "See the code"
RUN_CODE_LEAD = "This run as a script of its own, with TRL and PEFT, on the very rows that it learned from."
CODE_LEAD = "The same run as a script of its own, with TRL and PEFT. It changes with the settings."
COPY = "Copy"
SCRIPT = "Script"
START = "Start training"
BASE_INFO = "Chosen at the start of the app, by STUDIO_BASE."

NEW_RUN = "New run"
STOP_RUN = "Stop and keep what was learned"
RESUME_RUN = "Resume"
GOES_ON = "Resume it, and it goes on where it stopped."
DOWNLOAD_RUN = "Download (.zip)"
DELETE_RUN = "Delete this run and its data"
DELETE_SURE = "Delete this run, its conversations and the adapter that it made? This can't be undone."
COMPARE, COMPARE_CONTINUED = "Compare with the base", "Compare side by side"
SAID_IN_TRAINING = "From the training, where answers are kept short. Ask something, and both answer anew."
SAYS_NOW = "What the model says now"
MEASURED_LAST = "; what was learned is measured and kept"
ASKING_FIRST = "Asking it before it learns, to compare with later …"
SAYS_WAITING = "It answers before it learns, then you see how the answers change."
LESSON_LOSS = ("On conversations such as it learned from before, none of which it ever saw, its loss was {before:.2f} "
               "and is {after:.2f} now.")
FIRST_WORDS_SOON = "The first words come soon."
NEVER_ASKED = "It wasn't asked after it began to learn."
BASE_SAID, SAID_BEFORE = "The base said", "It said before"
NOW_SAYS = "It says now"
LOSS_TITLE = "How far off it is"
LOSS_LEAD = "Loss: how surprised the model is by the right answers. Lower is better."
LOSS_WAITING = "The first numbers come with the first step."
NO_LOSS = "The run ended before its first step."
TRAINING_LOSS = "conversations it learns from"
HELD_OUT_LOSS = "conversations it never saw"
PERPLEXITY, WORDS_RIGHT, GENERAL_LOSS = "perplexity", "tokens right, %", "loss on general questions"
LOSS_TABLE = "The losses as a table"
SPEED = "Speed"
EVALUATION = "How it does on conversations it never saw"
EVALUATION_WAITING = "It is measured when the run is over, on the conversations that it holds out."
NOT_EVALUATED = "Nothing was measured: the run held no conversations out, or ended too early."
CHRF = "chrF says how like the right answers they are, letter by letter: 100 is the same."
MEASURES = "Both on the same prompts"
MEASURES_LEAD = (f"{CHRF} ROUGE-L says so word by word, Exact match how many of 100 are the same, and Length ratio how "
                 "long they are beside the right ones.")
BEST_ROWS, WORST_ROWS = "Where it gained most", "Where it gained least"
WANTED, ADAPTER_SAID = "What was wanted", "The adapter said"
ABOUT_RUN = "About this run"
RUN_SETTINGS = "Settings"
RUN_DATA = "What it learned from"
RUN_PLAN = "Plan and outcome"
RUN_LOG = "What its trainer printed"
PAST_RUNS = "Runs so far"
KEPT_ON_THIS_MACHINE = ("Runs, the conversations that they learned from, and adapters are kept in {home} until you "
                        "delete them.")
OTHER_BASE = ("This app trains adapters for {base}, and {asked} is asked for. Leave the base out, or ask an app that "
              "was started with STUDIO_BASE={asked}.")
KEPT_FOR_A_WHILE = ("Your runs, the conversations that they learned from, their adapters, your corrections and your "
                    "votes are kept for {days} days after they last changed, or until this Space restarts. Only who "
                    "has a run's link, as it stands in your address bar, sees it. Download what you want to keep.")
KEPT_BY_NAME = ("What belongs to your name stays until you delete it or the Space restarts, and you alone see it "
                "when you are signed in, without a link.")
SHARE_RUN = "Let others look at this run"
UNSHARE_RUN = "Stop showing it to others"
SHARED_LINK = "Whoever has this link sees this page, and can change nothing"
SHARED_HERE = "This page, for whoever can reach this machine's app, where they can see and change all else as well"
COPY_LINK = "Copy the link"
LOOKING = "Somebody showed you this run. It can't be changed from here."
TRAIN_ONES_OWN = "Train your own"
ELSEWHERE = "Train it here with the tiny Phi-3"
USE_STEP = "Make an adapter of step {step:,}"
STEP_USED = "{name} is in the Chat tab, beside the adapter of the whole run."
WENT_BACK = "Held-out loss fell no further, so it stopped early and is the adapter of step {step:,}. "
QUEUED_NEXT = "It begins as soon as the run before it has ended."
QUEUED_BEHIND = "{count} runs come before it."
LEAVE_QUEUE = "Leave the queue"
KEEP_AFAR = "Keep this run in a private repository of mine on the Hub"
KEEP_AFAR_INFO = ("This Space forgets everything when it restarts; from there the run can go on. What travels: its "
                  "newest checkpoint, its settings and events, and the conversations that it learns from, since going "
                  "on needs them.")
KEPT_AFAR = "Kept up to step {step} in {repository}, which only you can read. It stays there until you delete it."
KEPT_AFAR_SOON = "It is kept with its next checkpoint."
KEEPING_AFAR = "Sending the checkpoint of step {step} …"
KEPT_RUNS = "Runs kept on the Hub"
KEPT_RUNS_LEAD = "They lie in private repositories of yours, and can go on here."
KEPT_RUN = "{name}, step {step}, kept on {day}"
BRING_BACK = "Bring it back"
CHOOSE_KEPT = "Choose a kept run first."
SIGN_IN_TO_KEEP = "Sign in first: runs are kept under your own name on the Hub."
COMPARE_RUNS = "Runs side by side"
COMPARE_RUNS_LEAD = ("Choose two to six of your runs: their losses in one drawing, the settings that differ, and what "
                     "each reached.")
COMPARE_WHICH = "Which runs?"
COMPARE_WAITING = "Choose at least two."
COMPARED_LOSSES = "Losses of these runs"
COMPARED_THICK = "Thick, with dots: conversations it never saw"
COMPARED_THIN = "thin: conversations it learns from"
COMPARED_TABLE = "These losses as a table"
DIFFERS = "What differs"
DIFFERS_NOWHERE = "Nothing: they learned from the same, with the same settings."
LEARNED_FROM = "Conversations"
REACHED = "What each reached"
JUDGED = "Against the base"
STOP_THESE = "Stop these runs"
SEVERAL = "Try several values"
SEVERAL_LEAD = ("One Start makes a run for each value, or for each combination of two settings: one after another, all "
                "measured on the same conversations, and compared as they go on.")
SEVERAL_NOTHING = "none"
SEVERAL_SETTINGS = ("Setting", "Second setting")
SEVERAL_VALUES = ("Its values", "Values of the second")
SEVERAL_HINT = "1e-4, 3e-4, 1e-3"
SEVERAL_OF_WHAT = "There are several values, and no setting that they are for. Choose one beside them."
SEVERAL_PLAN = "{count} runs, one after another, {time} together. The largest of them:"
SEVERAL_NOT_LENT = ("The GPU is lent here for one run at a time, while its page is open, so one Start can't begin "
                    "several. Start them one after the other, and compare them below.")
START_SEVERAL = "Start {count} runs"
IN_GROUP = "One of {count} runs that try {settings}:"
THIS_ONE = "this one"
COMPARED_BELOW = "See them side by side"
NO_RUNS = "No runs yet. The first one appears here as soon as it starts, and stays."

STATES = {
    "queued": "waiting", "preparing": "getting ready", "running": "training", "interrupted": "interrupted",
    "paused": "paused", "stopped": "stopped", "finished": "finished", "failed": "failed",
}

ADD_LANE = "Add a lane"
STRENGTH = "Strength of lane {letter}"
EDIT = "Edit"
RETRY_ONE = "Again"
TEACH = "Teach this"
EDIT_TITLE = "Your message as it should have been"
EDIT_LEAD = "Every lane answers it anew; what came after it goes."
SEND_AGAIN = "Send it again"
TEACH_TITLE = "What {who} should have said"
TEACH_LEAD = "It becomes one of the corrections of {who}, from which you can train it further."
ESCAPE_CLOSES = "Escape closes this; what you wrote is here when you open it again."
TEACH_IT = "Keep this correction"
CANCEL = "Cancel"
BLIND = "Blind"
BLIND_LEAD = "Every message begins anew, and lanes are shuffled and unnamed until you vote."
UNNAMED = "somebody"
BEST = "{letter} is best"
TIE = "A tie"
ALL_BAD = "All bad"
TALLY = "Your blind votes"
TALLY_HEAD = ("Who", "Won", "Tied", "Lost", "Share of meetings won", "Somewhere between")
NO_VOTES = "No votes yet. Tick Blind, ask something, and vote."
NOT_ENOUGH_LANES = "A blind comparison needs at least two lanes. Add one."
DOWNLOAD_PAIRS = "Votes as preference pairs (.jsonl)"
FORGET_VOTES = "Forget the votes"
CORRECTIONS = "Corrections"
NO_CORRECTIONS = "No corrections yet. Below an answer, press “Teach this” and write what it should have said."
CORRECTIONS_OF = "{count} of {who}"
CORRECTION_KEPT = "Kept. Correct a few more of the same kind, then train."
CORRECTED_FROM = "It said"
FORGET_ONE = "Remove"
DOWNLOAD_CORRECTIONS = "Download (.jsonl)"
TRAIN_CORRECTIONS = "Train with my corrections"
TAKE_AWAY = "Take it away"
AS_MARKDOWN = "Download (.md)"
AS_JSON = "Download (.json)"
LINK_HERE = "A link to these lanes"
LINK_TO_LANES = "Opens the same lanes with the same settings; nothing of what was said is in it"
NOTHING_TO_TAKE = "Nothing was said yet that could be taken away."
MANY_PROMPTS = "Many prompts at once"
MANY_LEAD = "Each line is asked of every lane, as a conversation of its own."
MANY_LABEL = "Prompts, one a line"
ASK_MANY = "Ask them all"
PROMPTS_ANSWERED = "{count} of {wanted} prompts answered"
DOWNLOAD_TABLE = "Download (.csv)"
PROMPT = "Prompt"
REMOVE_LANE = "Remove lane {letter}"
LANE_PICKER = "Lane {letter}"
EMPTY_LANE_BASE = "Phi-3 as it was published, without an adapter."
EMPTY_LANE_ADAPTER = "The same base, with this adapter beside it."
MESSAGE = "Your message, to every lane"
MESSAGE_HINT = "Ask something. Enter sends it to every lane."
SEND = "Send"
STOP_ANSWER = "Stop"
RETRY = "Try again"
UNDO = "Undo"
CLEAR = "Clear"
SAMPLING = "How answers are drawn"
SYSTEM_MESSAGE = "System message"
SYSTEM_HINT = "What every lane is told before the conversation. Empty: nothing."
LOADING_BASE = "The base is still loading; your message is answered as soon as it is there."
TRY_ASKING = ("What is the capital of France?", "How much is 7 plus 5?", "Who are you?")
NOTHING_TO_SEND = "Write a message first; then every lane answers it."
NOTHING_TO_RETRY = "There is no answer yet that could be tried again."
NOTHING_TO_UNDO = "There is nothing to undo yet."
NOTHING_TO_COMPARE = "This run made no adapter that could be compared."
ENDS = {"length": "cut at the longest answer allowed", "asked": "stopped"}


def said_before(continued: bool) -> str:
    """Over what was answered before a run: by the base, or where it has `continued` an adapter, by that one."""
    return SAID_BEFORE if continued else BASE_SAID
