"""The embedded Phi-3: weights and tokenizer that ship with the app, and the seeded code that makes them."""
