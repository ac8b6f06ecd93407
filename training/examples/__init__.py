"""Three small chat datasets that ship with the app, how they were made, and how to see that one was learned."""
