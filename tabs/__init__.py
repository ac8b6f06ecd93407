"""Everything that knows Gradio: the page, its two tabs, and how they look."""
