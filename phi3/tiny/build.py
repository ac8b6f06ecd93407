"""Makes the embedded Phi-3 from nothing but seeded code: `python -m phi3.tiny.build`."""
import argparse
import time
from pathlib import Path

HERE = Path(__file__).parent
VOCABULARY = 2000
CONTEXT = 2048


def main() -> None:
    arguments = parse_arguments()
    import torch
    from transformers.utils import logging
    logging.disable_progress_bar()
    torch.set_num_threads(2)
    if not arguments.evaluate:
        train(arguments)
    from phi3.tiny.figures import measure, write_readme
    figures = measure(arguments.folder)
    write_readme(arguments.folder, figures)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m phi3.tiny.build", description=__doc__)
    parser.add_argument("--minutes", type=float, help="save and stop after this long; --resume goes on")
    parser.add_argument("--steps", type=int, help="steps of the whole schedule (default: the recipe's)")
    parser.add_argument("--refine", type=int, metavar="STEPS",
                        help="train the model in --folder further, on a world that has grown since")
    parser.add_argument("--seed", type=int, default=1, help="what --refine draws; another one than before")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --state")
    parser.add_argument("--evaluate", action="store_true", help="only measure the model that is there")
    parser.add_argument("--state", type=Path, default=Path("studio_home/tiny-build"), help="folder of the checkpoint")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the model is written")
    return parser.parse_args()


def build_tokenizer():
    """The tokenizer, learned from the training side of the world."""
    from phi3.tiny.tokenizer import make_tokenizer
    from phi3.tiny.world import exchanges
    texts = (text for exchange in exchanges(seed=0, count=40_000)
             for text in (*(message["content"] for message in exchange.messages), exchange.answer))
    return make_tokenizer(texts, VOCABULARY, CONTEXT)


def tokenizer_for(arguments: argparse.Namespace):
    """A new tokenizer, or when going on the one that was trained with: the world may have grown."""
    from phi3.tiny.tokenizer import load_tokenizer
    if arguments.resume:
        return load_tokenizer(arguments.state)
    tokenizer = load_tokenizer(arguments.folder) if arguments.refine else build_tokenizer()
    tokenizer.save_pretrained(arguments.state)
    return tokenizer


def recipe_for(arguments: argparse.Namespace):
    """The whole schedule, a shorter one, or a second one that starts from trained weights and moves them less."""
    from phi3.tiny.learn import Recipe
    if arguments.refine:
        return Recipe(steps=arguments.refine, more_steps=0, learning_rate=1e-3, seed=arguments.seed)
    return Recipe(steps=arguments.steps, more_steps=0) if arguments.steps else Recipe()


def train(arguments: argparse.Namespace) -> None:
    from phi3.tiny.learn import Training
    recipe = recipe_for(arguments)
    training = Training(tokenizer_for(arguments), recipe, CONTEXT)
    if arguments.resume:
        training.load(arguments.state)
    elif arguments.refine:
        training.begin_from(arguments.folder)
    started, losses = time.monotonic(), []
    while training.step < recipe.all_steps:
        losses.append(training.advance())
        if training.step % 50 == 0:
            loss, seconds = sum(losses) / len(losses), time.monotonic() - started
            print(f"step {training.step}/{recipe.all_steps}  loss {loss:.4f}  {seconds:.0f} s", flush=True)
            losses.clear()
        if training.step % 500 == 0:
            training.save(arguments.state)
        if arguments.minutes and time.monotonic() - started > arguments.minutes * 60:
            break
    training.save(arguments.state)
    write_model(training, arguments.folder)


def write_model(training, folder: Path) -> None:
    """The weights in bf16 with config, generation config and tokenizer, as any Phi-3 repository has them."""
    import torch
    training.model.to(torch.bfloat16).save_pretrained(folder)
    training.tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
