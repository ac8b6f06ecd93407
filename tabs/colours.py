"""Colours and type of the page, in light and dark, as Gradio names them; the rest is in studio.css."""

import gradio as gr
from gradio.themes.utils.colors import Color

# Sea green is the adapter's colour everywhere on the page, and slate the base's.
_GREEN = Color("#eef6f2", "#dcede5", "#b9dccd", "#8cc5ae", "#57a88b", "#2b8a6b", "#0f6e54", "#0b5a45", "#0a4737",
               "#08392d", "#052019", name="sea")
_STONE = Color("#f7f8f6", "#eff1ee", "#e2e5e0", "#cdd2cb", "#9aa39b", "#6d766f", "#555e57", "#3d4540", "#272e2a",
               "#1a1f1c", "#111513", name="stone")


# Gradio's own names for the parts of a page; `_dark` is the dark scheme's.
_COLOURS = dict(  # noqa: C408 (read as the arguments that they are)
    body_background_fill="*neutral_50", body_background_fill_dark="*neutral_950",
    body_text_color="*neutral_900", body_text_color_dark="#e7ebe7",
    body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="#a7b0a9",
    background_fill_primary="white", background_fill_primary_dark="*neutral_900",
    background_fill_secondary="*neutral_50", background_fill_secondary_dark="*neutral_950",
    border_color_primary="*neutral_200", border_color_primary_dark="#303833",
    block_background_fill="transparent", block_background_fill_dark="transparent",
    block_border_width="0px", block_border_width_dark="0px", block_shadow="none", block_shadow_dark="none",
    block_padding="0px", block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
    block_label_text_color="*neutral_700", block_label_text_color_dark="#c4cbc5",
    block_title_text_color="*neutral_700", block_title_text_color_dark="#c4cbc5", block_title_text_weight="600",
    block_info_text_color="*neutral_600", block_info_text_color_dark="#a7b0a9",
    input_background_fill="white", input_background_fill_dark="#141917",
    input_border_color="#8b958d", input_border_color_dark="#66716a", input_border_width="1px",
    input_border_color_focus="*primary_600", input_border_color_focus_dark="*primary_400",
    input_placeholder_color="*neutral_500", input_placeholder_color_dark="#8f9992",
    link_text_color="*primary_700", link_text_color_dark="*primary_300",
    button_primary_background_fill="*primary_600", button_primary_background_fill_dark="#66c4a3",
    button_primary_background_fill_hover="*primary_700", button_primary_background_fill_hover_dark="#84d6ba",
    button_primary_text_color="white", button_primary_text_color_dark="#04211a",
    button_primary_text_color_hover="white", button_primary_text_color_hover_dark="#04211a",
    button_secondary_background_fill="white", button_secondary_background_fill_dark="*neutral_900",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="*neutral_800",
    button_secondary_border_color="*neutral_300", button_secondary_border_color_dark="#46504a",
    button_secondary_text_color="*neutral_900", button_secondary_text_color_dark="#e7ebe7",
    button_border_width="1px", button_transition="background-color 0.15s",
    shadow_drop="none", shadow_drop_lg="none",
    checkbox_label_background_fill="white", checkbox_label_background_fill_dark="#141917",
    checkbox_label_background_fill_selected="*primary_50", checkbox_label_background_fill_selected_dark="#12281f",
    checkbox_label_border_color="*neutral_300", checkbox_label_border_color_dark="#3b453f",
    checkbox_label_text_color_selected="*neutral_900", checkbox_label_text_color_selected_dark="#e7ebe7",
    checkbox_background_color_selected="*primary_600", checkbox_background_color_selected_dark="*primary_400",
    checkbox_border_color="#8b958d", checkbox_border_color_dark="#66716a",
    accordion_text_color="*neutral_700", accordion_text_color_dark="#c4cbc5",
)


def studio_theme() -> gr.themes.Base:
    """Served whole by Gradio itself: fonts, too, come from this machine (Gradio's semi-bold ones lack most letters)."""
    theme = gr.themes.Base(
        primary_hue=_GREEN, secondary_hue=_GREEN, neutral_hue=_STONE,
        text_size=gr.themes.sizes.text_md, radius_size=gr.themes.sizes.radius_lg,
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    )
    return theme.set(**_COLOURS)
